use std::str::FromStr;

/// How large a volume may be. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeSize(u64);

/// Less than this holds hardly more than what is said about it.
const LEAST: u64 = 64 << 10;
/// What README, checksums and the file system of a disc need. An omk binary comes on top.
const DISC: u64 = 20_000_000;

impl VolumeSize {
    /// Bytes of the largest file.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// The same with room for another file beside each volume.
    #[must_use]
    pub fn less(self, bytes: u64) -> Self {
        Self(self.0.saturating_sub(bytes))
    }

    /// Whether it is a medium of its own, which also has to hold what is beside the volume.
    pub fn is_disc(word: &str) -> bool {
        matches!(word, "dvd" | "bd")
    }
}

impl FromStr for VolumeSize {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let bytes = match word {
            // The largest file of that file system (Microsoft, "FAT32 File System Specification").
            "fat32" => Some(u64::from(u32::MAX)),
            // DVD+R has 4,700,372,992 bytes, DVD-R a little more.
            "dvd" => Some(4_700_000_000 - DISC),
            // BD-R, single layer: 25,025,314,816 bytes, of which spare areas may take some.
            "bd" => Some(25_000_000_000 - DISC),
            _ => sized(word),
        };
        match bytes {
            Some(bytes @ LEAST..) => Ok(Self(bytes)),
            Some(_) => Err("a volume has 64KiB at least".to_owned()),
            None => Err("fat32, dvd, bd, or a size such as 700MB, 4GiB or 1048576".to_owned()),
        }
    }
}

/// Decimal units as media are sold, binary ones with an i; a bare letter is decimal too.
fn sized(word: &str) -> Option<u64> {
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let (number, unit) = word.split_at(end);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let part = match part {
        "" => 0,
        digits if digits.len() <= 6 => {
            digits.parse::<u64>().ok()?.checked_mul(factor)? / 10u64.pow(u32::try_from(digits.len()).ok()?)
        }
        _ => return None,
    };
    whole.checked_mul(factor)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_media_are_sold() {
        for (word, bytes) in [
            ("fat32", 4_294_967_295),
            ("dvd", 4_680_000_000),
            ("bd", 24_980_000_000),
            ("700MB", 700_000_000),
            ("4GiB", 4 << 30),
            ("1.5g", 1_500_000_000),
            ("65536", 65536),
        ] {
            assert_eq!(word.parse::<VolumeSize>().map(VolumeSize::bytes), Ok(bytes), "{word}");
        }
        for word in
            ["", "0", "1kb", "cd", "-5", "1.2.3g", "99999999999999999999", "9999999999TB", "1.1234567g"]
        {
            assert!(word.parse::<VolumeSize>().is_err(), "{word}");
        }
    }
}
