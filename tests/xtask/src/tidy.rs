//! House rules that a program can check, over the text of the repository.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::CommandFactory;

mod functions;
mod sql;

/// The longest function; the habit is 40.
const FUNCTION_LINES_MAX: usize = 70;

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    file: PathBuf,
    line: usize,
    rule: String,
}

/// A word that only some files may hold.
struct Fence {
    /// Where the rule holds.
    inside: &'static str,
    /// Files in there whose path begins so may hold the words.
    except: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const FENCES: [Fence; 10] = [
    Fence {
        inside: "filter/src/",
        except: &["filter/src/envoy"],
        words: &["extern \"C\"", "proxy_wasm::"],
        why: "only filter/src/envoy* touches host calls",
    },
    Fence {
        inside: "sidecar/src/",
        except: &["sidecar/src/store"],
        words: &["sqlx::query", "SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM"],
        why: "only sidecar/src/store* holds SQL",
    },
    Fence {
        inside: "sidecar/src/",
        except: &["sidecar/src/cache"],
        words: &["redis::"],
        why: "only sidecar/src/cache* talks to Redis",
    },
    Fence {
        inside: "sidecar/src/",
        except: &["sidecar/src/payment.rs"],
        words: &["farebox_payment::", "tonic::"],
        why: "only sidecar/src/payment.rs talks to the payment service",
    },
    Fence {
        inside: "sidecar/src/",
        except: &["sidecar/src/trace", "sidecar/src/telemetry", "sidecar/src/store/trace.rs"],
        words: &["opentelemetry"],
        why: "only sidecar/src/trace* says what is in a trace, and sidecar/src/telemetry* sends it",
    },
    Fence {
        inside: "sidecar/src/",
        except: &["sidecar/src/app/orders/settle.rs", "sidecar/src/app/books/"],
        words: &[".recharge(account"],
        why: "only sidecar/src/app/orders/settle.rs credits orders",
    },
    Fence {
        inside: "sidecar/src/",
        except: &["sidecar/src/envoy"],
        words: &["farebox_filter::"],
        why: "only sidecar/src/envoy* reads with the filter's code",
    },
    Fence {
        inside: "sidecar/core/src/",
        except: &[],
        words: &[
            "SystemTime",
            "Instant::",
            "std::env",
            "rand::",
            "HashMap",
            "HashSet",
            "f32",
            "f64",
        ],
        why: "core has no clock, chance, environment, hash order or float",
    },
    Fence {
        inside: "",
        except: &["tests/xtask/src/tidy"],
        words: &["#[ignore"],
        why: "a test that does not run proves nothing",
    },
    Fence {
        inside: "sidecar/src/store",
        except: &[],
        words: &["UPDATE ledger_entry", "DELETE FROM ledger_entry"],
        why: "the ledger is append-only: corrections are reversals",
    },
];

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.rule)
    }
}

/// Every place under `root` that breaks a rule.
pub(crate) fn violations(root: &Path) -> Result<Vec<Violation>> {
    let mut found = Vec::new();
    for file in files(root)? {
        let path = file.strip_prefix(root).unwrap_or(&file).to_owned();
        let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if !matches!(extension.as_str(), "rs" | "sql" | "md" | "toml" | "yaml") {
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file:?}"))?;
        let mut add = |line, rule: String| found.push(Violation { file: path.clone(), line, rule });
        unfinished(&path, &text, &mut add);
        match extension.as_str() {
            "rs" => rust(&path, &text, &mut add),
            "sql" => statements(&text, &mut add),
            "md" => {
                commands(&text, &mut add);
                links(&file, &text, &mut add);
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Every file but those that are built or belong to git.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {folder:?}"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() {
            found.push(path);
        } else if path.is_dir() && name != "target" && name != ".git" {
            found.extend(files(&path)?);
        }
    }
    found.sort();
    Ok(found)
}

fn rust(path: &Path, text: &str, add: &mut impl FnMut(usize, String)) {
    if !text.starts_with("//!") {
        add(1, "a file opens with `//!` and says what it is".to_owned());
    }
    for function in functions::of(text) {
        if FUNCTION_LINES_MAX < function.lines {
            let (name, lines) = (function.name, function.lines);
            add(
                function.line,
                format!("`{name}` has {lines} lines, the limit is {FUNCTION_LINES_MAX}"),
            );
        }
    }
    let path = path.to_string_lossy();
    for Fence { inside, except, words, why } in &FENCES {
        if !path.starts_with(inside) || except.iter().any(|except| path.starts_with(except)) {
            continue;
        }
        for (line, content) in code_lines(text) {
            if words.iter().any(|word| content.contains(word)) {
                add(line, (*why).to_owned());
            }
        }
    }
}

/// Lines that are not comments, numbered from 1, up to the file's tests.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines()).take_while(|(_, line)| *line != "#[cfg(test)]");
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// MySQL commits each DDL statement by itself: a file with two of them could be left half done.
fn statements(text: &str, add: &mut impl FnMut(usize, String)) {
    let count = sql::statements(text);
    if count != 1 {
        add(1, format!("{count} statements; a migration has exactly one"));
    }
}

/// A note to oneself is lost unless an issue carries it.
fn unfinished(path: &Path, text: &str, add: &mut impl FnMut(usize, String)) {
    if path.starts_with("tests/xtask/src") {
        return;
    }
    for (line, content) in (1..).zip(text.lines()) {
        let marked = ["TODO", "FIXME", "XXX"].iter().any(|word| content.contains(word));
        let numbered = content.split("issue ").nth(1).is_some_and(starts_with_digit)
            || content.split('#').skip(1).any(starts_with_digit);
        if marked && !numbered {
            add(line, "a TODO names its issue: `TODO(issue 7): …`".to_owned());
        }
    }
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|character: char| character.is_ascii_digit())
}

/// A document that names a command which does not exist misleads its first reader.
fn commands(text: &str, add: &mut impl FnMut(usize, String)) {
    let known = crate::CommandLine::command();
    for (line, content) in (1..).zip(text.lines()) {
        for after in content.split("cargo xtask ").skip(1) {
            let word: String =
                after.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            if !word.is_empty() && known.find_subcommand(&word).is_none() {
                add(line, format!("there is no `cargo xtask {word}`"));
            }
        }
    }
}

/// So does a link to a file that is not there.
fn links(document: &Path, text: &str, add: &mut impl FnMut(usize, String)) {
    let folder = document.parent().unwrap_or(document);
    for (line, content) in (1..).zip(text.lines()) {
        for after in content.split("](").skip(1) {
            let target = after.split([')', '#']).next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://");
            if !elsewhere && !folder.join(target).exists() {
                add(line, format!("there is no file {target}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut add = |line: usize, rule: String| found.push(format!("{line}: {rule}"));
        unfinished(Path::new(path), text, &mut add);
        if path.ends_with(".rs") {
            rust(Path::new(path), text, &mut add);
        } else {
            commands(text, &mut add);
        }
        found
    }

    #[test]
    fn a_rust_file_says_what_it_is() {
        assert_eq!(rules("a.rs", "//! A.\n"), [""; 0]);
        assert_eq!(
            rules("a.rs", "fn a() {}\n"),
            ["1: a file opens with `//!` and says what it is"]
        );
    }

    #[test]
    fn a_fence_holds_outside_of_comments_and_tests() {
        let clock = "//! A.\n// Instant::now is not for us.\nlet t = Instant::now();\n";
        let why = "3: core has no clock, chance, environment, hash order or float";
        assert_eq!(rules("sidecar/core/src/a.rs", clock), [why]);
        assert_eq!(rules("sidecar/src/a.rs", clock), [""; 0]);
        let tested = "//! A.\n#[cfg(test)]\nmod tests { Instant::now() }\n";
        assert_eq!(rules("sidecar/core/src/a.rs", tested), [""; 0]);
    }

    #[test]
    fn a_note_to_oneself_names_an_issue() {
        let rule = "1: a TODO names its issue: `TODO(issue 7): …`";
        assert_eq!(rules("a.md", "TODO: later"), [rule]);
        assert_eq!(rules("a.md", "TODO(issue 7): later"), [""; 0]);
    }

    #[test]
    fn a_document_names_commands_that_exist() {
        assert_eq!(rules("a.md", "`cargo xtask test`, `cargo xtask`"), [""; 0]);
        assert_eq!(rules("a.md", "`cargo xtask fly`"), ["1: there is no `cargo xtask fly`"]);
    }
}
