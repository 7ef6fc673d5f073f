//! The transcript of the command line tells the truth: what it shows is typed, and what comes back is compared.

use farebox_tests::{binaries, run};

use crate::readme::{Reader, read};

/// What stands for anything within a line, and for any lines.
const ANYTHING: &str = "[..]";
const ANY_LINES: &str = "...";

/// What stands before each answer.
const MARK: &str = "=== next";

/// What is typed, and the lines that come back.
struct Exchange {
    command: String,
    expected: Vec<String>,
}

/// The exchanges of a page, in its order.
fn exchanges(page: &str) -> Vec<Exchange> {
    let blocks = page.split("\n```").skip(1).step_by(2);
    let lines = blocks.filter_map(|block| block.strip_prefix("console\n")).flat_map(str::lines);
    let mut exchanges: Vec<Exchange> = Vec::new();
    for line in lines {
        match (line.strip_prefix("$ "), exchanges.last_mut()) {
            (Some(command), _) => {
                exchanges.push(Exchange { command: command.to_owned(), expected: Vec::new() });
            }
            (None, Some(exchange)) => exchange.expected.push(line.to_owned()),
            (None, None) => panic!("a block begins with a command: {line}"),
        }
    }
    exchanges
}

/// The words of a line: how wide columns are depends on what stands in them.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is what was expected.
fn is_alike(expected: &str, line: &str) -> bool {
    let (expected, line) = (words(expected), words(line));
    let mut parts = expected.split(ANYTHING);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// Whether lines are what was expected, where lines may be left out.
fn are_alike(expected: &[String], lines: &[&str]) -> bool {
    match (expected, lines) {
        ([], lines) => lines.is_empty(),
        ([first, rest @ ..], lines) if first == ANY_LINES => {
            (0..=lines.len()).any(|left_out| are_alike(rest, &lines[left_out..]))
        }
        ([_, ..], []) => false,
        ([first, expected @ ..], [line, lines @ ..]) => {
            is_alike(first, line) && are_alike(expected, lines)
        }
    }
}

#[test]
fn lines_are_compared_by_their_words_and_may_be_left_out() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let alike =
        |expected: &str, told: &str| are_alike(&lines(expected), &told.lines().collect::<Vec<_>>());
    assert!(alike("a [..] c\n...\nz", "a   b   c\nx\ny\nz"));
    assert!(alike("...", "") && alike("a\n...", "a") && alike("[..]Z x", "12Z  x"));
    for (expected, told) in
        [("a", "a b"), ("a\n...\nz", "a\nx"), ("a [..] c", "a b d"), ("", "a"), ("a", "")]
    {
        assert!(!alike(expected, told), "{expected:?} {told:?}");
    }
}

#[test]
fn the_transcript_of_the_command_line_is_what_happens() {
    run(async {
        let page = read(&binaries::repository().join("docs/transcript.md"));
        let exchanges = exchanges(&page);
        assert!(10 < exchanges.len(), "the transcript has lost its commands");
        let mut script = "set +e\nunset -f curl\n".to_owned();
        for Exchange { command, .. } in &exchanges {
            script += &format!(
                "echo '{MARK}'\n{{ {command}\n}} 2>&1; status=$?; [ $status = 0 ] || echo \"[exit status $status]\"\n"
            );
        }
        let told = Reader::new().await.run(&script).await;
        let answers: Vec<_> = told.split(&format!("{MARK}\n")).skip(1).collect();
        assert_eq!(answers.len(), exchanges.len(), "{told}");
        for (Exchange { command, expected }, answer) in exchanges.iter().zip(answers) {
            let lines: Vec<_> = answer.lines().filter(|line| !line.is_empty()).collect();
            let expected: Vec<_> =
                expected.iter().filter(|line| !line.is_empty()).cloned().collect();
            assert!(
                are_alike(&expected, &lines),
                "docs/transcript.md, {command}\nexpected:\n{}\ntold:\n{answer}",
                expected.join("\n")
            );
        }
    });
}
