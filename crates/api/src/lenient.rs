//! Numbers as people write them: `100.0` where an integer is asked (seed S14), and integers for a double.
//!
//! For `#[serde(deserialize_with = …)]`. A number with a fraction, or out of the type's range, is an error that says so.

use serde::{Deserialize, Deserializer, de::Error};

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i128>, D::Error> {
    let number = Option::<Number>::deserialize(deserializer).map_err(|_| D::Error::custom("expected an integer"))?;
    match number {
        None => Ok(None),
        Some(Number::Signed(value)) => Ok(Some(value.into())),
        Some(Number::Unsigned(value)) => Ok(Some(value.into())),
        // 2^53: beyond it a double no longer holds every integer.
        Some(Number::Float(value)) if value.fract() == 0.0 && value.abs() < 9.0e15 => Ok(Some(value as i128)),
        Some(Number::Float(value)) => Err(D::Error::custom(format!("expected an integer, got {value}"))),
    }
}

fn narrow<'de, D: Deserializer<'de>, T: TryFrom<i128>>(deserializer: D, range: &str) -> Result<Option<T>, D::Error> {
    let Some(value) = integer(deserializer)? else { return Ok(None) };
    T::try_from(value).map(Some).map_err(|_| D::Error::custom(format!("{value} is not within {range}")))
}

/// `u32`, absent or null as `None`.
pub fn u32<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    narrow(deserializer, "0 to 4294967295")
}

/// `i32`, absent or null as `None`.
pub fn i32<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    narrow(deserializer, "-2147483648 to 2147483647")
}

/// `u64`, absent or null as `None`.
pub fn u64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    narrow(deserializer, "0 to 18446744073709551615")
}

/// A required `u32`; 0 when null.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    u32(deserializer).map(Option::unwrap_or_default)
}

/// A map of names to `u32`.
pub fn u32_map<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<std::collections::BTreeMap<String, u32>, D::Error> {
    #[derive(Deserialize)]
    struct One(#[serde(deserialize_with = "number")] u32);
    let map = Option::<std::collections::BTreeMap<String, One>>::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_iter().map(|(key, One(value))| (key, value)).collect())
}

/// A list, where null means empty.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

/// A list of `u32`.
pub fn u32_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    #[derive(Deserialize)]
    struct One(#[serde(deserialize_with = "number")] u32);
    Ok(Option::<Vec<One>>::deserialize(deserializer)?.unwrap_or_default().into_iter().map(|One(value)| value).collect())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Deserialize, PartialEq, Debug)]
    struct Holder {
        #[serde(default, deserialize_with = "super::u32")]
        n: Option<u32>,
    }

    fn read(text: &str) -> Result<Option<u32>, String> {
        serde_json::from_str::<Holder>(text).map(|holder| holder.n).map_err(|error| error.to_string())
    }

    #[test]
    fn integral_floats_are_integers() {
        assert_eq!(read(r#"{"n": 100.0}"#), Ok(Some(100)));
        assert_eq!(read(r#"{"n": 100}"#), Ok(Some(100)));
        assert_eq!(read(r#"{"n": null}"#), Ok(None));
        assert_eq!(read("{}"), Ok(None));
        assert!(read(r#"{"n": 12.5}"#).unwrap_err().contains("expected an integer, got 12.5"));
        assert!(read(r#"{"n": -1}"#).unwrap_err().contains("not within 0 to 4294967295"));
        assert!(read(r#"{"n": "x"}"#).unwrap_err().contains("expected an integer"));
    }
}
