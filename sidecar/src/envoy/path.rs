//! What a connection manager makes of a path before any filter sees it (Envoy's `conn_manager_utility` and `path_utility`).

use super::tree::Node;

/// What becomes of a request for its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Normalized {
    /// Filters and routes see this path.
    Path(String),
    /// The caller is sent to this path with 307, before any filter.
    Redirect(String),
    /// The caller gets 400, before any filter.
    Refused(&'static str),
}

/// What a manager does to paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) normalize: bool,
    pub(super) merge_slashes: bool,
    pub(super) escaped: Escaped,
}

/// What escaped slashes (`%2f`, `%5c`) become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escaped {
    Kept,
    Refused,
    Redirected,
    Unescaped,
}

impl Settings {
    pub(super) fn of(manager: &Node) -> Self {
        let escaped = match manager.word("path_with_escaped_slashes_action") {
            "REJECT_REQUEST" | "2" => Escaped::Refused,
            "UNESCAPE_AND_REDIRECT" | "3" => Escaped::Redirected,
            "UNESCAPE_AND_FORWARD" | "4" => Escaped::Unescaped,
            _ => Escaped::Kept,
        };
        Self {
            normalize: manager.is_set("normalize_path"),
            merge_slashes: manager.is_set("merge_slashes"),
            escaped,
        }
    }

    /// The path (with its query) as filters see it.
    pub(super) fn apply(self, sent: &str) -> Normalized {
        if sent.contains('#') {
            return Normalized::Refused("the path has a fragment (#…)");
        }
        let (path, query) = sent.find(['?']).map_or((sent, ""), |at| sent.split_at(at));
        let mut path = path.to_owned();
        let mut is_redirected = false;
        if self.escaped != Escaped::Kept {
            let unescaped = unescape_slashes(&path);
            if unescaped != path {
                if self.escaped == Escaped::Refused {
                    return Normalized::Refused(
                        "the path has an escaped slash, and path_with_escaped_slashes_action is REJECT_REQUEST",
                    );
                }
                is_redirected = self.escaped == Escaped::Redirected;
                path = unescaped;
            }
        }
        if self.normalize {
            let Some(canonical) = canonical(&path) else {
                return Normalized::Refused("the path cannot be normalized");
            };
            path = canonical;
        }
        if self.merge_slashes {
            path = merged(&path);
        }
        let path = path + query;
        if is_redirected { Normalized::Redirect(path) } else { Normalized::Path(path) }
    }
}

fn unescape_slashes(path: &str) -> String {
    let mut text = path.to_owned();
    for (escaped, plain) in [("%2f", "/"), ("%2F", "/"), ("%5c", "\\"), ("%5C", "\\")] {
        text = text.replace(escaped, plain);
    }
    text
}

fn merged(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !text.ends_with('/') {
            text.push(letter);
        }
    }
    text
}

/// RFC 3986 with what browsers do: backslashes are slashes, needless escapes go, dots lead up.
fn canonical(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let text = unescape_plain(&path.replace('\\', "/"));
    let mut segments: Vec<&str> = Vec::new();
    let mut words = text.split('/').skip(1).peekable();
    while let Some(word) = words.next() {
        let is_last = words.peek().is_none();
        match word {
            "." if is_last => segments.push(""),
            "." => {}
            ".." => {
                segments.pop();
                if is_last {
                    segments.push("");
                }
            }
            word => segments.push(word),
        }
    }
    Some(format!("/{}", escape_odd(&segments.join("/"))))
}

/// Escapes what must not stand in a path as it is.
fn escape_odd(path: &str) -> String {
    let mut text = String::with_capacity(path.len() + 1);
    for byte in path.bytes() {
        if byte <= b' ' || 0x7f <= byte || b"\"<>^`{|}".contains(&byte) {
            text.push_str(&format!("%{byte:02X}"));
        } else {
            text.push(char::from(byte));
        }
    }
    text
}

/// Undoes escapes of letters that need none.
fn unescape_plain(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        text.push_str(before);
        let code = escape.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let plain = code.map(char::from).filter(|letter| {
            letter.is_ascii_alphanumeric() || ['-', '.', '_', '~'].contains(letter)
        });
        match plain {
            Some(letter) => {
                text.push(letter);
                rest = &escape[3..];
            }
            None => {
                text.push('%');
                rest = &escape[1..];
            }
        }
    }
    text + rest
}

/// How the settings read in an explanation.
pub(super) fn told(settings: Settings) -> String {
    let switch = |name, on| format!("{name} {}", if on { "on" } else { "off" });
    let escaped = match settings.escaped {
        Escaped::Kept => "escaped slashes kept",
        Escaped::Refused => "escaped slashes refused",
        Escaped::Redirected => "escaped slashes redirected",
        Escaped::Unescaped => "escaped slashes undone",
    };
    let (normalize, merge) = (settings.normalize, settings.merge_slashes);
    format!(
        "{}, {}, {escaped}",
        switch("normalize_path", normalize),
        switch("merge_slashes", merge)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Settings =
        Settings { normalize: true, merge_slashes: true, escaped: Escaped::Redirected };

    #[test]
    fn paths_become_what_filters_see() {
        let path = |path: &str| Normalized::Path(path.to_owned());
        for (sent, seen) in [
            ("/a/b", path("/a/b")),
            ("/a/../b", path("/b")),
            ("/../../b", path("/b")),
            ("/a/./b/.", path("/a/b/")),
            ("/a/..", path("/")),
            ("/a//b?x=//&y=/../", path("/a/b?x=//&y=/../")),
            ("/a\\b", path("/a/b")),
            ("/%61%2e%2e/%2e%2e/c", path("/c")),
            ("/%7e%41%2B", path("/~A%2B")),
            ("/a%zz", path("/a%zz")),
            ("/{a}|b^é", path("/%7Ba%7D%7Cb%5E%C3%A9")),
            ("/a//../b", path("/a/b")),
            ("/a%2fb", Normalized::Redirect("/a/b".to_owned())),
            ("/a#b", Normalized::Refused("the path has a fragment (#…)")),
            ("*", Normalized::Refused("the path cannot be normalized")),
        ] {
            assert_eq!(ALL.apply(sent), seen, "{sent}");
        }
    }

    #[test]
    fn nothing_is_done_that_is_not_set() {
        let off = Settings { normalize: false, merge_slashes: false, escaped: Escaped::Kept };
        for sent in ["/a/../b", "//a", "/a%2Fb", "*"] {
            assert_eq!(off.apply(sent), Normalized::Path(sent.to_owned()));
        }
        let merge = Settings { merge_slashes: true, ..off };
        assert_eq!(merge.apply("/..//a"), Normalized::Path("/../a".to_owned()));
        let refuse = Settings { escaped: Escaped::Refused, ..off };
        assert!(matches!(refuse.apply("/a%5cb"), Normalized::Refused(_)));
    }
}
