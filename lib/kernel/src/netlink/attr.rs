//! Reading netlink attributes: type-length-value records, aligned to four bytes
//! (include/uapi/linux/netlink.h).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::names::MacAddr;

/// The attributes in a buffer, in order. Ends at the first one that is cut short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attrs<'a>(&'a [u8]);

/// One attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attr<'a> {
    /// Type, without the nested and byte-order flags.
    pub(super) kind: u16,
    /// Value.
    pub(super) value: &'a [u8],
}

impl<'a> Attrs<'a> {
    /// The attributes that follow a fixed header of `header` bytes; none when the
    /// message is shorter than that.
    pub(super) fn after(body: &'a [u8], header: usize) -> Self {
        Self(body.get(header..).unwrap_or_default())
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        const FLAGS: u16 = 0xc000;
        let len = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & !FLAGS;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(Attr { kind, value })
    }
}

impl<'a> Attr<'a> {
    /// The attributes nested in this one.
    pub(super) fn nested(self) -> Attrs<'a> {
        Attrs(self.value)
    }

    /// The value as one byte.
    pub(super) fn u8(self) -> Option<u8> {
        self.value.first().copied()
    }

    /// The value as a truth value: any byte but 0.
    pub(super) fn bool(self) -> Option<bool> {
        self.u8().map(|byte| byte != 0)
    }

    /// The value as a 16-bit number in host order.
    pub(super) fn u16(self) -> Option<u16> {
        u16_at(self.value, 0)
    }

    /// The value as a 16-bit number in network order.
    pub(super) fn u16_be(self) -> Option<u16> {
        self.u16().map(u16::from_be)
    }

    /// The value as a 32-bit number in host order.
    pub(super) fn u32(self) -> Option<u32> {
        u32_at(self.value, 0)
    }

    /// The value as a 32-bit number in network order.
    pub(super) fn u32_be(self) -> Option<u32> {
        self.u32().map(u32::from_be)
    }

    /// The value up to its NUL.
    pub(super) fn bytes(self) -> &'a [u8] {
        let end = self.value.iter().position(|byte| *byte == 0);
        let bytes = self.value.get(..end.unwrap_or(self.value.len()));
        bytes.unwrap_or_default()
    }

    /// The value as text, up to its NUL; what is not UTF-8 is replaced.
    pub(super) fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The value as an Ethernet address; `None` for other link layers.
    pub(super) fn mac(self) -> Option<MacAddr> {
        <[u8; 6]>::try_from(self.value).ok().map(MacAddr)
    }

    /// The value as an IP address, its family told by its length.
    pub(super) fn ip(self) -> Option<IpAddr> {
        if let Ok(v4) = <[u8; 4]>::try_from(self.value) {
            return Some(Ipv4Addr::from(v4).into());
        }
        let v6 = <[u8; 16]>::try_from(self.value).ok()?;
        Some(Ipv6Addr::from(v6).into())
    }
}

/// The first attribute of this type.
pub(super) fn find(mut attrs: Attrs<'_>, kind: u16) -> Option<Attr<'_>> {
    attrs.find(|attr| attr.kind == kind)
}

/// `len` rounded up to the four bytes netlink aligns to.
pub(super) fn align(len: usize) -> usize {
    len.saturating_add(3) & !3
}

/// The 16-bit number in host order at `at`.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*field))
}

/// The 32-bit number in host order at `at`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_aligned_and_lose_their_flags() {
        let bytes = [
            7, 0, 3, 0, b'b', b'r', 0, 0, // IFLA_IFNAME "br", padded
            8, 0, 4, 0x80, 0xdc, 5, 0, 0, // IFLA_MTU 1500, nested flag set
        ];
        let read: Vec<_> = Attrs::after(&bytes, 0).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].text()), (3, "br".to_owned()));
        assert_eq!((read[1].kind, read[1].u32()), (4, Some(1500)));
    }

    #[test]
    fn a_cut_attribute_ends_the_list() {
        for bytes in [&[8, 0, 4, 0, 1][..], &[3, 0, 4, 0], &[8, 0, 4], &[]] {
            assert_eq!(Attrs::after(bytes, 0).count(), 0, "{bytes:?}");
        }
        assert_eq!(Attrs::after(&[1, 2], 16).count(), 0);
    }

    #[test]
    fn values_of_the_wrong_length_are_none() {
        let attr = |value| Attr { kind: 1, value };
        assert_eq!(attr(&[]).u8(), None);
        assert_eq!(attr(&[1]).u16(), None);
        assert_eq!(attr(&[1, 2]).u32(), None);
        assert_eq!(attr(&[1, 2, 3]).ip(), None);
        assert_eq!(attr(&[0; 20]).mac(), None);
        assert_eq!(attr(&[1, 2]).u16_be(), Some(0x0102));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            for attr in Attrs::after(&bytes, 0) {
                attr.nested().count();
                let _text = attr.text();
            }
        }
    }
}
