use super::*;
use crate::store::hex;
use proptest::prelude::*;

fn kind(text: &str) -> Type {
    Type::parse(text.as_bytes()).unwrap()
}

fn strings<'a>(items: &[&'a str]) -> Value<'a> {
    let items = items.iter().map(|item| Value::str(item)).collect();
    Value::Array(Type::Text(Text::String), items)
}

#[test]
fn values_have_the_bytes_that_glib_gives_them() {
    // The examples of the specification's section 2.5, and shapes that ostree uses.
    let entry = |key: &'static str, value| Value::DictEntry(Box::new([Value::str(key), value]));
    let i32 = |value: i32| Value::Fixed(Fixed::I32, u64::from(value.cast_unsigned()));
    let boolean = Type::Fixed(Fixed::Bool);
    let cases = [
        ("s", Value::str("hello world"), "68656c6c6f20776f726c6400"),
        (
            "ab",
            Value::Array(boolean, vec![Value::bool(true), Value::bool(false)]),
            "0100",
        ),
        (
            "(si)",
            Value::Tuple(vec![Value::str("foo"), i32(-1)]),
            "666f6f00ffffffff04",
        ),
        (
            "as",
            strings(&["i", "can", "has", "strings?"]),
            "690063616e0068617300737472696e67733f0002060a13",
        ),
        ("as", strings(&[]), ""),
        ("as", strings(&[""]), "0001"),
        (
            "{sv}",
            entry("a", Value::variant(Value::bytes(b"b"))),
            "6100000000000000620061790 2",
        ),
        ("v", Value::variant(Value::Tuple(vec![])), "00002829"),
        (
            "(yu)",
            Value::Tuple(vec![Value::Fixed(Fixed::Byte, 7), Value::u32(1)]),
            "0700000001000000",
        ),
        (
            "(uy)",
            Value::Tuple(vec![Value::u32(1), Value::Fixed(Fixed::Byte, 7)]),
            "0100000007000000",
        ),
        (
            "ms",
            Value::Maybe(kind("s"), Some(Box::new(Value::str("")))),
            "0000",
        ),
        ("ms", Value::Maybe(kind("s"), None), ""),
        (
            "mt",
            Value::Maybe(kind("t"), Some(Box::new(Value::u64(1)))),
            "0100000000000000",
        ),
    ];
    for (text, value, expected) in cases {
        let bytes = serialise(&value);
        assert_eq!(hex(&bytes), expected.replace(' ', ""), "{text}");
        assert_eq!(value.type_of().to_string(), text);
        assert_eq!(parse(&kind(text), &bytes).as_ref(), Ok(&value), "{text}");
    }
}

#[test]
fn offsets_widen_with_their_container() {
    for length in [252, 253, 254, 255, 256, 65_530, 65_532, 65_533, 65_534, 70_000] {
        let text = "x".repeat(length);
        let value = Value::Tuple(vec![Value::str(&text), strings(&[&text, "y"]), Value::bool(true)]);
        let bytes = serialise(&value);
        assert_eq!(parse(&kind("(sasb)"), &bytes), Ok(value), "{length}");
    }
    // 253 characters and NUL, one offset: 255 bytes in all, so one byte suffices; one more does not.
    let size = |length: usize| serialise(&strings(&["x".repeat(length).as_str()])).len();
    assert_eq!(size(253), 255);
    assert_eq!(size(254), 257);
}

#[test]
fn only_normal_form_is_read() {
    let cases: &[(&str, &[u8], &str)] = &[
        ("b", &[2], "a boolean is 2, neither 0 nor 1"),
        ("u", &[1, 2], "a value of type `u` takes 4 bytes, not 2"),
        (
            "s",
            b"no end",
            "a string is not UTF-8 that ends in its only NUL byte",
        ),
        (
            "s",
            b"a\0b\0",
            "a string is not UTF-8 that ends in its only NUL byte",
        ),
        (
            "s",
            b"\xff\0",
            "a string is not UTF-8 that ends in its only NUL byte",
        ),
        ("s", b"", "a string is not UTF-8 that ends in its only NUL byte"),
        (
            "(yu)",
            &[7, 0, 9, 0, 1, 0, 0, 0],
            "padding between values is not zero",
        ),
        (
            "(uy)",
            &[1, 0, 0, 0, 7, 0, 9, 0],
            "padding between values is not zero",
        ),
        (
            "as",
            &[0x61, 0, 0xff],
            "the framing offsets of a `as` are out of order, out of bounds or too wide",
        ),
        (
            "as",
            &[0x61, 0, 0x62, 0, 4, 2, 4],
            "a string is not UTF-8 that ends in its only NUL byte",
        ),
        (
            "(ss)",
            b"a\0b\0\x09",
            "the framing offsets of a `(ss)` are out of order, out of bounds or too wide",
        ),
        (
            "(sy)",
            b"a\0bb\x02",
            "the framing offsets of a `(sy)` are out of order, out of bounds or too wide",
        ),
        (
            "(ss)",
            b"",
            "the framing offsets of a `(ss)` are out of order, out of bounds or too wide",
        ),
        ("v", b"abc", "a variant does not name its type"),
        ("v", b"a\0zz", "`zz` is not a GVariant type"),
        ("au", &[0; 6], "a value of type `u` takes 8 bytes, not 6"),
    ];
    for (text, bytes, expected) in cases {
        let error = parse(&kind(text), bytes).unwrap_err();
        assert_eq!(error.to_string(), *expected, "{text} {bytes:?}");
    }
    // Two-byte offsets where one byte would have done.
    let mut wide = [0; 256];
    wide[254..].copy_from_slice(&[200, 0]);
    assert!(parse(&kind("aay"), &wide).is_err());
}

#[test]
fn nesting_is_bounded() {
    assert!(Type::parse(&[b'('; 1000]).is_err());
    assert!(Type::parse(&[b'a'; 1000]).is_err());
    assert!(Type::parse(&[b"(".as_slice(), &[b'y'; 2000], b")"].concat()).is_err());
    let mut value = Value::bool(true);
    for _ in 0..1000 {
        value = Value::variant(value);
    }
    assert_eq!(parse(&Type::Variant, &serialise(&value)), Err(Error::Depth));
    for bad in ["", "(", ")", "a", "{vs}", "{s}", "{sss}", "ss", "z", "(s"] {
        assert!(Type::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_is_read_has_one_form(bytes in proptest::collection::vec(
        prop_oneof![Just(0_u8), 1..12_u8, Just(b's'), Just(b'y'), Just(b'a'), Just(b'('), Just(b')'), any::<u8>()], 0..40))
    {
        for text in ["v", "a{sv}", "(say)", "a(sayay)", "(uuua(ayay))", "as", "(tay)", "mv", "a(yu)"] {
            if let Ok(value) = parse(&kind(text), &bytes) {
                prop_assert_eq!(serialise(&value), bytes.clone());
            }
        }
    }
}
