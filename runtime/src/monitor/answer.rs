//! What a command says: as text for people and as JSON for programs, made side by side so
//! that neither lacks what the other has.

use serde_json::Value;

/// The answer of a command that was carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// For people: lines, the last one ended.
    pub text: String,
    /// For programs.
    pub data: Value,
}

/// The answer, or in words why there is none.
pub type Outcome = Result<Answer, String>;

impl Answer {
    /// Text, and the same as data.
    pub fn new(text: impl Into<String>, data: Value) -> Self {
        let mut text = text.into();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Self { text, data }
    }
}
