//! Whether a Secret holds a certificate that can be served (GW21). Reads PEM and of the certificate only when it ends;
//! proves no signature.

use api::kubernetes::Secret;

/// The names of certificate and key, of both forms of a Secret; the first is tried first.
const PAIRS: [(&str, &str); 2] = [("cert", "key"), ("tls.crt", "tls.key")];
/// Largest certificate chain looked at, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// Why it cannot be served; `None` when it can.
pub(crate) fn problem(secret: &Secret, now_seconds: u64) -> Option<String> {
    let value = |name: &str| secret.data.get(name).filter(|value| !value.is_empty());
    let pair = PAIRS
        .iter()
        .find(|(certificate, key)| secret.data.contains_key(*certificate) || secret.data.contains_key(*key));
    let Some((certificate, key)) = pair else {
        return Some("it has neither tls.crt and tls.key nor cert and key".into());
    };
    for name in [certificate, key] {
        let Some(text) = value(name) else { return Some(format!("{name} is absent or empty")) };
        let wanted = if name == certificate { "CERTIFICATE" } else { "PRIVATE KEY" };
        let der = match pem(text, wanted) {
            Ok(der) => der,
            Err(reason) => return Some(format!("{name} {reason}")),
        };
        if name == certificate && now_seconds > 0 {
            match not_after(&der) {
                None => return Some(format!("{name} is no X.509 certificate")),
                Some(end) if end < digits(now_seconds) => return Some(format!("{name} has ended on {}", date(&end))),
                Some(_) => {}
            }
        }
    }
    None
}

/// When the first certificate of a PEM text ends, YYYYMMDDHHMMSS; `None` when there is none.
pub fn end(text: &str) -> Option<String> {
    not_after(&block(text, "CERTIFICATE").ok()?)
}

/// True when what [`end`] gives is before a time, seconds since 1970.
pub fn ends_before(end: &str, seconds: u64) -> bool {
    end < digits(seconds).as_str()
}

// The first block of the wanted kind, from base64 of PEM.
fn pem(value: &str, wanted: &str) -> Result<Vec<u8>, String> {
    let text = base64(value.as_bytes()).ok_or("is not base64")?;
    let text = String::from_utf8(text).map_err(|_| "is not PEM")?;
    block(&text, wanted)
}

fn block(text: &str, wanted: &str) -> Result<Vec<u8>, String> {
    let mut lines = text.lines();
    let begins = |line: &&str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{wanted}-----"));
    lines.find(begins).ok_or(format!("has no {wanted} in PEM"))?;
    let body: String = lines.take_while(|line| !line.starts_with("-----END")).map(str::trim).collect();
    base64(body.as_bytes()).filter(|der| !der.is_empty()).ok_or(format!("has a {wanted} that is not base64"))
}

/// What base64 says, at most [`BYTES_MAX`] of it, blanks passed over.
pub fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(BYTES_MAX).collect();
    let data = text.split(|byte| *byte == b'=').next().unwrap_or_default();
    let mut out = Vec::with_capacity(data.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in data {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

// X.509 (RFC 5280, 4.1): Certificate { tbs { [0] version, serial, algorithm, issuer, validity { notBefore, notAfter } … } }.
// The end as YYYYMMDDHHMMSS, whose text order is its time order.
fn not_after(der: &[u8]) -> Option<String> {
    let certificate = element(der)?.1;
    let mut rest = element(certificate)?.1;
    // Serial number, algorithm and issuer, and before them an explicit version (tag [0]).
    let ahead = if *rest.first()? == 0xa0 { 4 } else { 3 };
    for _ in 0..ahead {
        rest = element(rest)?.2;
    }
    let validity = element(rest)?.1;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    let text = std::str::from_utf8(text).ok()?.trim_end_matches('Z');
    // UTCTime has two digits of the year, from 1950.
    let century = match (tag, text.get(..2)?.parse::<u32>().ok()?) {
        (0x17, year) if year < 50 => "20",
        (0x17, _) => "19",
        _ => "",
    };
    let text = format!("{century}{text}");
    (text.len() == 14 && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

// Tag, content and what follows of one DER element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, first, rest) = (*der.first()?, *der.get(1)?, der.get(2..)?);
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let count = usize::from(first & 0x7f);
            let length = rest.get(..count)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, &rest[count..])
        }
        _ => return None,
    };
    Some((tag, rest.get(..length)?, rest.get(length..)?))
}

// Seconds since 1970 as YYYYMMDDHHMMSS (civil from days, Howard Hinnant).
fn digits(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", rest / 3_600, rest % 3_600 / 60, rest % 60)
}

/// A day in what [`end`] gives, YYYY-MM-DD.
pub fn date(digits: &str) -> String {
    let part = |from, to| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-{}", part(0, 4), part(4, 6), part(6, 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_dates() {
        assert_eq!(digits(0), "19700101000000");
        assert_eq!(digits(951_827_696), "20000229123456");
        assert_eq!(digits(1_735_689_599), "20241231235959");
    }

    #[test]
    fn base64_is_read() {
        assert_eq!(base64(b"aGVsbG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64(b"aGVs\nbG8").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64(b"a b!"), None);
    }
}
