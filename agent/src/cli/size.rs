//! Sizes as people write them.

/// The suffixes and what they multiply with.
const UNITS: [(char, u32); 5] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50)];

/// Reads bytes: `8G`, `8GiB`, `512M`, `1048576`. Units count in 1024. `GB` and `Gb` are
/// refused: they are read as 1000s, as 1024s and as bits by different people.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let help = |why: &str| {
        format!(
            "{text:?} is no size: {why}; write bytes, or a whole number with K, M, G, T or P \
             (KiB, MiB ...), in steps of 1024: 8G, 8GiB, 512M"
        )
    };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let suffix = &text[digits.len()..];
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
        return Err(help("it is not a whole number and a unit"));
    }
    let number: u64 = digits.parse().map_err(|error| help(&format!("{error}")))?;
    let shift = match suffix {
        "" => 0,
        _ => {
            let named = |(unit, _): &&(char, u32)| {
                suffix
                    .strip_prefix(*unit)
                    .is_some_and(|rest| matches!(rest, "" | "iB"))
            };
            let unit = UNITS.iter().find(named);
            unit.ok_or_else(|| help(&format!("{suffix:?} is no unit")))?
                .1
        }
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| help("it is too large"))
}

/// Writes bytes so that [`parse`] reads the same again, if they have a round form; else
/// with one digit behind the point.
pub(crate) fn human(bytes: u64) -> String {
    let unit = UNITS.iter().rev().find(|(_, shift)| bytes >= 1 << shift);
    let Some((unit, shift)) = unit else {
        return bytes.to_string();
    };
    let one = 1_u64 << shift;
    let (whole, rest) = (bytes / one, bytes % one);
    if rest == 0 {
        return format!("{whole}{unit}iB");
    }
    // Below one unit; ten times that fits.
    let tenth = u128::from(rest) * 10 / u128::from(one);
    format!("{whole}.{tenth}{unit}iB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_count_in_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512M", 512 << 20),
            ("8G", 8 << 30),
            ("8GiB", 8 << 30),
            ("3KiB", 3 << 10),
            ("2T", 2 << 40),
            ("1P", 1 << 50),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_can_be_meant_in_two_ways_is_refused() {
        for text in [
            "",
            "G",
            "8Gb",
            "8GB",
            "8g",
            "8 G",
            "8Gi",
            "1.5G",
            "-1",
            "+1",
            "8GG",
            "0x10",
            "8B",
            "17179869184G",
            "99999999999999999999",
            "é",
            "8é",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("8G, 8GiB, 512M"), "{text}: {error}");
        }
    }

    #[test]
    fn round_sizes_are_read_as_written() {
        for bytes in [0, 1, 1023, 1 << 10, 512 << 20, 8 << 30, 3 << 50] {
            assert_eq!(parse(&human(bytes)), Ok(bytes));
        }
        assert_eq!(human((1 << 30) + (1 << 29)), "1.5GiB");
        assert_eq!(human(u64::MAX), "16383.9PiB");
    }
}
