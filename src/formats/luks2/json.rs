//! JSON that may be hostile: every key once, and values of the type that is asked for, with their place in errors.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::Luks2Error;

/// Parses a JSON object in which no object has a key twice: which of the two counts would differ between readers.
///
/// Nesting is bounded by `serde_json` (128 levels), the length by the caller.
pub(super) fn parse(text: &[u8]) -> Result<Map<String, Value>, Luks2Error> {
    match serde_json::from_slice(text) {
        Ok(Strict(Value::Object(map))) => Ok(map),
        Ok(_) => Err(Luks2Error::metadata("its JSON", "is not an object")),
        Err(error) => Err(Luks2Error::metadata(
            "its JSON",
            format!("cannot be read: {error}"),
        )),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let Strict(value) = access.next_value()?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} occurs twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// An object of the metadata, and what it is called in errors.
pub(super) struct Object<'a> {
    pub place: String,
    pub map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub fn new(place: impl Into<String>, map: &'a Map<String, Value>) -> Self {
        Self {
            place: place.into(),
            map,
        }
    }

    pub fn error(&self, why: impl Into<String>) -> Luks2Error {
        Luks2Error::metadata(&self.place, why)
    }

    fn wants<T>(&self, key: &str, what: &str, value: Option<T>) -> Result<T, Luks2Error> {
        value.ok_or_else(|| self.error(format!("has no {what} {key:?}")))
    }

    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub fn object(&self, key: &str) -> Result<Object<'a>, Luks2Error> {
        let map = self.wants(key, "object", self.map.get(key).and_then(Value::as_object))?;
        Ok(Object::new(format!("{}.{key}", self.place), map))
    }

    pub fn text(&self, key: &str) -> Result<&'a str, Luks2Error> {
        self.wants(key, "string", self.map.get(key).and_then(Value::as_str))
    }

    /// A string that must be `expected`: all other kinds are refused.
    pub fn only(&self, key: &str, expected: &str) -> Result<(), Luks2Error> {
        match self.text(key)? {
            found if found == expected => Ok(()),
            found => Err(self.error(format!(
                "has the {key} {found:?}, and only {expected:?} is accepted"
            ))),
        }
    }

    /// A JSON number of 31 bits: cryptsetup keeps it in an `int`.
    pub fn count(&self, key: &str) -> Result<u32, Luks2Error> {
        let number = self.map.get(key).and_then(Value::as_u64);
        let number = number.filter(|&number| i32::try_from(number).is_ok());
        self.wants(
            key,
            "positive number",
            number.and_then(|number| u32::try_from(number).ok()),
        )
    }

    /// A number of 64 bits, which LUKS2 writes as a string of digits.
    pub fn decimal(&self, key: &str) -> Result<u64, Luks2Error> {
        let value = self.map.get(key).and_then(Value::as_str).and_then(decimal);
        self.wants(key, "number of 64 bits in a string", value)
    }

    pub fn bytes(&self, key: &str) -> Result<Vec<u8>, Luks2Error> {
        let decoded = STANDARD.decode(self.text(key)?);
        self.wants(key, "base64", decoded.ok())
    }

    pub fn strings(&self, key: &str) -> Result<Vec<&'a str>, Luks2Error> {
        let array = self.map.get(key).and_then(Value::as_array);
        let strings = array.and_then(|array| array.iter().map(Value::as_str).collect());
        self.wants(key, "array of strings", strings)
    }

    /// An array of strings that are numbers, as keyslots and segments are named; sorted, each once.
    pub fn numbers(&self, key: &str) -> Result<Vec<u32>, Luks2Error> {
        let strings = self.strings(key)?;
        let numbers: Option<Vec<u32>> = strings.iter().map(|text| number(text)).collect();
        let mut numbers = self.wants(key, "array of numbers in strings", numbers)?;
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// The numbered objects in the object `key`, such as keyslots; `what` is one of them in errors.
    pub fn numbered(&self, key: &str, what: &str, most: u32) -> Result<Vec<(u32, Object<'a>)>, Luks2Error> {
        let parent = self.object(key)?;
        let mut objects = Vec::new();
        for (name, value) in parent.map {
            let place = format!("{what} {name:?}");
            let number = number(name).filter(|&number| number < most).ok_or_else(|| {
                let why = format!("has a name that is no number below {most}");
                Luks2Error::metadata(&place, why)
            })?;
            let map = value
                .as_object()
                .ok_or_else(|| Luks2Error::metadata(&place, "is not an object"))?;
            objects.push((number, Object::new(format!("{what} {number}"), map)));
        }
        Ok(objects)
    }
}

fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// A name such as `0` or `31`, written the one way.
fn number(text: &str) -> Option<u32> {
    let value = u32::try_from(decimal(text)?).ok()?;
    (value.to_string() == text).then_some(value)
}

pub(super) fn encode(bytes: &[u8]) -> Value {
    STANDARD.encode(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_occurs_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":[{"b":{},"c":0,"b":{}}]}"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("occurs twice"), "{error}");
        }
        let text = r#"{"b":[1,-2,3.5,18446744073709551615,null,true,"ü"],"a":{"b":{}}}"#;
        let map = parse(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&map).unwrap(), text);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let deep = "[".repeat(200_000);
        for text in ["", "[]", "1", "{} {}", "{\"a\":1e999}", deep.as_str()] {
            assert!(parse(text.as_bytes()).is_err(), "{text:.20}");
        }
    }

    #[test]
    fn values_have_the_type_that_is_asked_for() {
        let text = r#"{"n":5,"big":2147483648,"neg":-1,"d":"18446744073709551615","over":"18446744073709551616",
            "plus":"+1","empty":"","list":["3","1","3"],"zero":["03"],"b":"AAE=","bad":"AA"}"#;
        let map = parse(text.as_bytes()).unwrap();
        let object = Object::new("here", &map);
        assert_eq!(object.count("n").unwrap(), 5);
        assert_eq!(object.decimal("d").unwrap(), u64::MAX);
        assert_eq!(object.numbers("list").unwrap(), [1, 3]);
        assert_eq!(object.bytes("b").unwrap(), [0, 1]);
        for key in ["big", "neg", "d", "absent"] {
            assert!(object.count(key).is_err(), "{key}");
        }
        for key in ["over", "plus", "empty", "n", "absent"] {
            assert!(object.decimal(key).is_err(), "{key}");
        }
        assert!(object.numbers("zero").is_err());
        assert!(object.bytes("bad").is_err());
        assert_eq!(
            object.count("absent").unwrap_err().to_string(),
            "the LUKS2 header is refused: here has no positive number \"absent\""
        );
    }
}
