//! String, header and query matchers.

use regex::Regex;

use super::super::tree::Node;
use super::{Answer, Asked};

/// A `RegexMatcher` over a whole text. RE2 and this crate speak the same language but for rare corners.
pub(super) fn regex(matcher: &Node, text: &str) -> Answer {
    let pattern = matcher.word("regex");
    match Regex::new(&format!("^(?:{pattern})$")) {
        Ok(regex) => Answer::of(regex.is_match(text)),
        Err(_) => {
            Answer::Doubt(format!("the regular expression {pattern:?} is not understood here"))
        }
    }
}

/// What every text that a pattern matches begins with.
pub(super) fn literal_beginning(pattern: &str) -> String {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let end =
        pattern.find(|letter: char| !(letter.is_ascii_alphanumeric() || "/-_~".contains(letter)));
    let Some(end) = end else { return pattern.to_owned() };
    let (literal, rest) = pattern.split_at(end);
    if pattern.contains('|') {
        return String::new();
    }
    // The last letter may be repeated not at all.
    let is_optional = rest.starts_with(['?', '*', '{']);
    let keep = literal.len() - usize::from(is_optional && !literal.is_empty());
    literal[..keep].to_owned()
}

/// A `StringMatcher`.
fn string(matcher: &Node, text: &str) -> Answer {
    let ignore_case = matcher.is_set("ignore_case");
    let fold = |text: &str| if ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
    let folded = fold(text);
    let word = |name| matcher.text_of(name).map(fold);
    if let Some(exact) = word("exact") {
        return Answer::of(folded == exact);
    }
    if let Some(prefix) = word("prefix") {
        return Answer::of(folded.starts_with(&prefix));
    }
    if let Some(suffix) = word("suffix") {
        return Answer::of(folded.ends_with(&suffix));
    }
    if let Some(part) = word("contains") {
        return Answer::of(folded.contains(&part));
    }
    match matcher.get("safe_regex") {
        Some(matcher) => regex(matcher, text),
        None => {
            Answer::Doubt("a string matcher is of a kind that is not evaluated here".to_owned())
        }
    }
}

/// A `HeaderMatcher`.
pub(super) fn header(matcher: &Node, asked: &Asked) -> Answer {
    let name = matcher.word("name").to_ascii_lowercase();
    let found = asked.header(&name);
    let is_inverted = matcher.is_set("invert_match");
    if let Some(present) = matcher.flag("present_match") {
        return Answer::of(found.is_some() == present).inverted(is_inverted);
    }
    let empty = matcher.is_set("treat_missing_header_as_empty").then(String::new);
    let Some(value) = found.or(empty) else {
        // A value that is absent fits no matcher of values, inverted ones included; without one only its presence counts.
        return Answer::of(is_inverted && !has_specifier(matcher));
    };
    value_of(matcher, &value).inverted(is_inverted)
}

fn has_specifier(matcher: &Node) -> bool {
    let others = ["name", "invert_match", "treat_missing_header_as_empty"];
    others.iter().filter(|name| matcher.get(name).is_some()).count() < matcher.entries().len()
}

fn value_of(matcher: &Node, value: &str) -> Answer {
    if let Some(matcher) = matcher.get("string_match") {
        return string(matcher, value);
    }
    if let Some(matcher) = matcher.get("safe_regex_match") {
        return regex(matcher, value);
    }
    if let Some(range) = matcher.get("range_match") {
        let number = |name| range.text_of(name).and_then(|text| text.parse::<i64>().ok());
        let (start, end) = (number("start").unwrap_or(0), number("end").unwrap_or(0));
        return Answer::of(value.parse().is_ok_and(|value: i64| (start..end).contains(&value)));
    }
    let old = |name: &str, fits: fn(&str, &str) -> bool| {
        matcher.text_of(name).map(|wanted| Answer::of(fits(value, wanted)))
    };
    old("exact_match", |value, wanted| value == wanted)
        .or_else(|| old("prefix_match", |value, wanted| value.starts_with(wanted)))
        .or_else(|| old("suffix_match", |value, wanted| value.ends_with(wanted)))
        .or_else(|| old("contains_match", |value, wanted| value.contains(wanted)))
        // Without a specifier the header has only to be there.
        .unwrap_or(Answer::Yes)
}

/// A `QueryParameterMatcher`; `value` is the parameter's, when the query has it.
pub(super) fn query(matcher: &Node, value: Option<&str>) -> Answer {
    let Some(present) = matcher.flag("present_match") else {
        return match (matcher.get("string_match"), value) {
            (_, None) => Answer::No,
            (Some(matcher), Some(value)) => string(matcher, value),
            (None, Some(_)) => Answer::Yes,
        };
    };
    Answer::of(value.is_some() == present)
}

#[cfg(test)]
mod tests {
    use super::super::super::tree::read;
    use super::super::tests::asked;
    use super::*;

    #[test]
    fn headers_match_in_every_way_that_envoy_knows() {
        for (matcher, expected) in [
            ("name: X-A, string_match: { exact: one }", Answer::Yes),
            ("name: x-a, string_match: { exact: ONE, ignore_case: true }", Answer::Yes),
            ("name: x-a, string_match: { suffix: ne }, invert_match: true", Answer::No),
            ("name: x-a, string_match: { safe_regex: { regex: 'o.e' } }", Answer::Yes),
            ("name: x-a, string_match: { safe_regex: { regex: 'o' } }", Answer::No),
            ("name: x-b, string_match: { exact: one }", Answer::No),
            ("name: x-b, string_match: { exact: one }, invert_match: true", Answer::No),
            ("name: x-b, invert_match: true", Answer::Yes),
            (
                "name: x-b, string_match: { exact: '' }, treat_missing_header_as_empty: true",
                Answer::Yes,
            ),
            ("name: x-b, present_match: false", Answer::Yes),
            ("name: x-a", Answer::Yes),
            ("name: x-a, exact_match: one", Answer::Yes),
            ("name: x-a, range_match: { start: 1, end: 5 }", Answer::No),
            ("name: ':method', string_match: { exact: GET }", Answer::Yes),
        ] {
            let node = read(&format!("{{ {matcher} }}")).unwrap();
            assert_eq!(header(&node, &asked("/")), expected, "{matcher}");
        }
        let odd = read("{ name: x-a, string_match: { safe_regex: { regex: '(' } } }").unwrap();
        assert!(matches!(header(&odd, &asked("/")), Answer::Doubt(_)));
    }

    #[test]
    fn a_pattern_tells_what_its_texts_begin_with() {
        for (pattern, beginning) in [
            ("/v1/[a-z]+", "/v1/"),
            ("^/v1/x?y", "/v1/"),
            ("/a|/b", ""),
            ("/plain", "/plain"),
            (".*", ""),
        ] {
            assert_eq!(literal_beginning(pattern), beginning, "{pattern}");
        }
    }
}
