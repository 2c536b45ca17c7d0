//! Name service settings from a file (resolv.conf(5)).

use std::fs;
use std::path::Path;

use crate::result::Dns;

/// Reads the file.
///
/// # Errors
/// The sentence to show when it cannot be read.
pub(super) fn read(path: &Path) -> Result<Dns, String> {
    let text = fs::read(path).map_err(|error| format!("the file cannot be read: {error}"))?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// As the reference reads it: unknown words are passed over, lists add up.
fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(key), Some(first)) = (words.next(), words.next()) else {
            continue;
        };
        let all = std::iter::once(first).chain(words).map(str::to_owned);
        match key {
            "nameserver" => dns.nameservers.push(first.to_owned()),
            "domain" => dns.domain = Some(first.to_owned()),
            "search" => dns.search.extend(all),
            "options" => dns.options.extend(all),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_resolver_reads_them() {
        let dns = parse(
            "# made by hand\n; so\nnameserver 192.0.2.1\n  nameserver\t2001:db8::1 # v6\n\
             search a.example b.example\nsearch c.example\noptions ndots:2 rotate\n\
             domain example\nsortlist 1\nnameserver\n\n",
        );
        assert_eq!(dns.nameservers, ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(dns.search, ["a.example", "b.example", "c.example"]);
        assert_eq!(dns.options, ["ndots:2", "rotate"]);
        assert_eq!(dns.domain.as_deref(), Some("example"));
    }
}
