//! "Did you mean …?"

/// The most similar of `allowed`, if at most a third of `word` differs (and at least one character may).
pub fn closest<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = (word.chars().count() / 3).max(1);
    let distances = allowed.into_iter().map(|allowed| (strsim::damerau_levenshtein(word, allowed), allowed));
    distances.filter(|(distance, _)| *distance <= near).min().map(|(_, allowed)| allowed)
}
