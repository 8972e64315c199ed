//! Quantities as people read them.

use std::time::Duration;

/// Bytes, such as `64.0 GiB`.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let at = (bytes.max(1).ilog2() / 10) as usize;
    match at {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / (1_u64 << (10 * at)) as f64, units[at]),
    }
}

/// A time, such as `131 µs`.
pub(super) fn time(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        1_000_000..120_000_000 => format!("{:.1} s", micros as f64 / 1e6),
        120_000_000..7_200_000_000 => format!("{} min", micros / 60_000_000),
        _ => format!("{} h", micros / 3_600_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, shown) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (64 << 20, "64.0 MiB"), (u64::MAX, "16.0 EiB")]
        {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn times() {
        for (micros, shown) in [
            (7, "7 µs"),
            (1500, "1.5 ms"),
            (2_000_000, "2.0 s"),
            (300_000_000, "5 min"),
            (86_400_000_000, "24 h"),
        ] {
            assert_eq!(time(Duration::from_micros(micros)), shown);
        }
    }
}
