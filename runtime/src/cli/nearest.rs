//! What somebody probably meant: the known name nearest to a mistyped one.
//!
//! Near is a matter of edit distance, transpositions counted once, up to a third of the
//! longer name; a name of which the word is the beginning counts as one edit away.

/// The meaning of the name that is nearest to `word`, if one is near.
pub fn nearest<'a, T>(word: &str, names: impl IntoIterator<Item = (&'a str, T)>) -> Option<T> {
    let near = names.into_iter().filter_map(|(name, meaning)| {
        let distance = match word.len() > 1 && name.starts_with(word) {
            true => 1,
            false => strsim::damerau_levenshtein(word, name),
        };
        let most = word.len().max(name.len()).div_ceil(3);
        (distance <= most && distance < word.len()).then_some((distance, meaning))
    });
    Some(near.min_by_key(|(distance, _)| *distance)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(word: &str) -> Option<&'static str> {
        let names = ["memory", "kernel", "nographic", "no-reboot", "m"];
        nearest(word, names.map(|name| (name, name)))
    }

    #[test]
    fn slips_are_understood() {
        assert_eq!(name("kernal"), Some("kernel"));
        assert_eq!(name("nogrpahic"), Some("nographic"));
        assert_eq!(name("noreboot"), Some("no-reboot"));
        assert_eq!(name("mem"), Some("memory"));
    }

    #[test]
    fn what_is_like_nothing_is_near_nothing() {
        assert_eq!(name("usb"), None);
        assert_eq!(name("x"), None);
        assert_eq!(name(""), None);
    }
}
