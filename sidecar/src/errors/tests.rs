//! The catalogue is whole: texts, pages, uses; and the document is what the code says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// What the programs of a folder say, without their tests and without the catalogue.
fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && !["tests", "errors"].contains(&name.as_str()) {
            sources(&path, into);
        }
        let is_source = name.ends_with(".rs") && !["code.rs", "tests.rs"].contains(&name.as_str());
        if path.is_file() && is_source {
            let text = fs::read_to_string(path).unwrap();
            into.push_str(text.split("#[cfg(test)]\nmod tests {").next().unwrap());
        }
    }
}

#[test]
fn no_code_lacks_a_text_or_a_page_and_none_stands_there_unused() {
    let mut used = String::new();
    for folder in ["filter/src", "sidecar/src", "sidecar/core/src"] {
        sources(&root().join(folder), &mut used);
    }
    let mut titles = BTreeSet::new();
    for code in Code::ALL {
        for language in [Language::Chinese, Language::English] {
            assert!(titles.insert(code.title(language)), "{code:?} has the title of another one");
        }
        let Page { meaning, remedy, .. } = pages::page(code);
        for text in [meaning, remedy] {
            assert!(text.english.is_ascii() || text.english.contains('…'), "{code:?}");
            assert!(text.english.ends_with('.'), "{code:?}: {}", text.english);
            assert!(text.chinese.ends_with('。'), "{code:?}: {}", text.chinese);
        }
        assert!(used.contains(&format!("Code::{code:?}")), "nobody answers {code:?}");
    }
}

#[test]
fn numbers_say_whose_they_are_and_statuses_are_those_of_errors() {
    for code in Code::ALL {
        assert!([10, 19].contains(&(code.number() / 10_000)), "{code:?}");
        assert!((400..600).contains(&code.http_status()), "{code:?}");
        assert!((1..=16).contains(&code.grpc_status()), "{code:?}");
    }
}

#[test]
fn numbers_that_are_gone_are_not_used_for_anything_else() {
    for (number, ..) in RETIRED {
        assert_eq!(Code::from_number(number), None);
    }
}

/// Who gets 5xx and 429 may come again; who gets another 4xx has to change something first, or to pay.
#[test]
fn what_may_be_sent_again_agrees_with_the_status() {
    use Code::{Misconfigured, PaymentNotConfigured, PaymentRefused};
    for code in Code::ALL {
        let comes_again = [429, 502, 503].contains(&code.http_status())
            && ![PaymentRefused, PaymentNotConfigured, Misconfigured].contains(&code);
        if comes_again {
            assert_eq!(pages::page(code).repeat, Repeat::Safe, "{code:?}");
        }
    }
}

#[test]
fn the_document_is_what_the_code_says() {
    let path = root().join("docs/errors.md");
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, markdown(), "write it anew: farebox errors --markdown > docs/errors.md");
}
