//! JSON, written.
//!
//! The few kinds of values that occur do not warrant a serialiser: strings,
//! finite numbers, arrays and objects whose fields are written in order.

use std::fmt::Write;

/// A string. It may stand inside a page, so it cannot end a script.
pub fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        // Writing to a `String` cannot fail.
        let _ = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            c if c.is_control() || c == '<' => write!(quoted, "\\u{:04x}", u32::from(c)),
            c => quoted.write_char(c),
        };
    }
    quoted.push('"');
    quoted
}

/// A number; null if it is none that JSON can say.
pub fn number(value: Option<f64>) -> String {
    let finite = value.filter(|value| value.is_finite());
    finite.map_or("null".to_owned(), |value| value.to_string())
}

/// An array of values.
pub fn array(values: impl IntoIterator<Item = String>) -> String {
    let values: Vec<String> = values.into_iter().collect();
    format!("[{}]", values.join(", "))
}

/// An object of names and values.
pub fn object(fields: impl IntoIterator<Item = (String, String)>) -> String {
    let fields = fields.into_iter();
    let fields: Vec<String> = fields
        .map(|(name, value)| format!("{}: {value}", string(&name)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_cannot_say_is_escaped_or_null() {
        assert_eq!(string("a\n\"\\</"), r#""a\u000a\"\\\u003c/""#);
        assert_eq!(number(Some(f64::NAN)), "null");
    }
}
