//! Counts the statements of a migration.

/// Where the reader stands in the text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    Comment,
    Quoted(char),
}

/// The number of statements: parts between semicolons that hold more than blanks and `--` comments.
pub(super) fn statements(text: &str) -> usize {
    let mut state = State::Code;
    let (mut count, mut started) = (0, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        state = match (state, character) {
            (State::Comment, '\n') => State::Code,
            (State::Quoted(quote), character) if character == quote => State::Code,
            (State::Code, '-') if characters.peek() == Some(&'-') => State::Comment,
            (State::Code, '\'' | '"' | '`') => {
                started = true;
                State::Quoted(character)
            }
            (State::Code, ';') => {
                count += usize::from(started);
                started = false;
                State::Code
            }
            (State::Code, character) => {
                started |= !character.is_whitespace();
                State::Code
            }
            (State::Comment | State::Quoted(_), _) => state,
        };
    }
    count + usize::from(started)
}

#[cfg(test)]
mod tests {
    use super::statements;

    #[test]
    fn semicolons_in_comments_and_texts_do_not_count() {
        for (text, expected) in [
            ("", 0),
            ("-- nothing; at all\n", 0),
            ("SELECT 1", 1),
            ("SELECT 1;\n-- done\n", 1),
            ("COMMENT 'a; b';", 1),
            ("SELECT 1; SELECT 2", 2),
        ] {
            assert_eq!(statements(text), expected, "{text}");
        }
    }
}
