//! Finds functions in formatted Rust: they begin at `fn` and end at the brace in the same column.

/// A function with a body of its own lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    /// Where it begins, from 1.
    pub(super) line: usize,
    pub(super) lines: usize,
}

/// Every function of a file that rustfmt has formatted; those on one line are left out.
pub(super) fn of(text: &str) -> Vec<Function<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = name(line) else { continue };
        let same_column = |other: &&str| indent(other) == indent(line) && !other.is_empty();
        // A line in the function's column that ends so ends a declaration, or a function of one line.
        let mut closing = lines.iter().enumerate().skip(index);
        let end = closing.find(|(_, other)| same_column(other) && other.ends_with(['}', ';']));
        match end {
            Some((last, end)) if index < last && !end.ends_with(';') => {
                found.push(Function { name, line: index + 1, lines: last - index + 1 });
            }
            Some(_) | None => {}
        }
    }
    found
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The name of the function that begins on this line.
fn name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let keyword = words.by_ref().find(|word| !is_modifier(word))?;
    if keyword != "fn" {
        return None;
    }
    words.next()?.split(['(', '<']).next()
}

fn is_modifier(word: &str) -> bool {
    word.starts_with("pub") || matches!(word, "async" | "const" | "unsafe" | "extern" | "\"C\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_signature_to_brace() {
        let text = "\
impl A {
    pub(crate) async fn long(
        &self,
    ) -> u8 {
        if true {
            1
        }
    }
    fn short() {}
    fn declared();
    fn declared_at_length(
        &self,
    ) -> u8;
}
";
        assert_eq!(of(text), [Function { name: "long", line: 2, lines: 7 }]);
    }
}
