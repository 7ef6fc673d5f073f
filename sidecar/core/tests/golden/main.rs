//! Old and new programs understand each other: messages of each protocol version, kept in `golden/`, against the types of
//! that version and against today's.

mod v1;

use farebox_core::call::{
    CheckReply, CheckRequest, CommitReply, CommitRequest, DeductReply, DeductRequest, RefundReply,
    RefundRequest, ReleaseReply, ReleaseRequest, ReserveReply, ReserveRequest, Shortfall,
};
use farebox_core::problem::Problem;
use farebox_core::wire::{SyncReply, SyncRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// What a reader makes of a message, written down again by it.
type Read = fn(&Value) -> Option<Value>;

/// A kept message and the readers of both versions.
struct Message {
    name: &'static str,
    text: &'static str,
    today: Read,
    v1: Read,
}

fn read<T: Serialize + DeserializeOwned>(message: &Value) -> Option<Value> {
    // Through text, as on the wire.
    let read: T = serde_json::from_str(&message.to_string()).ok()?;
    serde_json::to_value(read).ok()
}

macro_rules! messages {
    ($($file:literal: $kind:ident),* $(,)?) => {
        [$(Message {
            name: $file,
            text: include_str!(concat!("../../golden/v1/", $file, ".json")),
            today: read::<$kind>,
            v1: read::<v1::$kind>,
        }),*]
    };
}

/// Every message that version 1 knows, with every member, and two without those that may be absent.
fn messages() -> [Message; 18] {
    messages![
        "sync_request": SyncRequest,
        "sync_request.minimal": SyncRequest,
        "sync_reply": SyncReply,
        "sync_reply.minimal": SyncReply,
        "check_request": CheckRequest,
        "check_reply": CheckReply,
        "deduct_request": DeductRequest,
        "deduct_reply": DeductReply,
        "shortfall": Shortfall,
        "problem": Problem,
        "reserve_request": ReserveRequest,
        "reserve_reply": ReserveReply,
        "commit_request": CommitRequest,
        "commit_reply": CommitReply,
        "release_request": ReleaseRequest,
        "release_reply": ReleaseReply,
        "refund_request": RefundRequest,
        "refund_reply": RefundReply,
    ]
}

impl Message {
    fn value(&self) -> Value {
        serde_json::from_str(self.text).unwrap_or_else(|err| panic!("{}: {err}", self.name))
    }

    fn is_full(&self) -> bool {
        !self.name.ends_with(".minimal")
    }
}

/// Whether every member of `old` stands in `new` with the same value; `new` may have more.
fn contains(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            old.iter().all(|(name, old)| new.get(name).is_some_and(|new| contains(new, old)))
        }
        (Value::Array(new), Value::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| contains(new, old))
        }
        (new, old) => new == old,
    }
}

/// The message with a member more in every object, and what that may mean to nobody.
fn with_unknown_members(message: &Value) -> Value {
    match message {
        Value::Object(members) => {
            let known =
                members.iter().map(|(name, value)| (name.clone(), with_unknown_members(value)));
            let mut members: Map<String, Value> = known.collect();
            members.insert("colour".to_owned(), json!({ "of": ["a", "later", "version"] }));
            Value::Object(members)
        }
        Value::Array(items) => items.iter().map(with_unknown_members).collect(),
        other => other.clone(),
    }
}

/// JSON pointers of all members, at every level.
fn members(message: &Value, at: &str) -> Vec<String> {
    let children: Vec<(String, &Value)> = match message {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (format!("{at}/{name}"), value)).collect()
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            return items
                .flat_map(|(place, item)| members(item, &format!("{at}/{place}")))
                .collect();
        }
        _ => return Vec::new(),
    };
    let below = children.iter().flat_map(|(path, value)| members(value, path));
    let below: Vec<String> = below.collect();
    children.into_iter().map(|(path, _)| path).chain(below).collect()
}

fn without(message: &Value, member: &str) -> Value {
    let mut message = message.clone();
    let (object, name) = member.rsplit_once('/').unwrap();
    message.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    message
}

#[test]
fn today_reads_every_message_of_version_1_and_loses_nothing() {
    for message in messages() {
        let old = message.value();
        let new = (message.today)(&old).unwrap_or_else(|| panic!("{} is not read", message.name));
        assert!(contains(&new, &old), "{}: {old} became {new}", message.name);
    }
}

#[test]
fn version_1_reads_what_is_written_today_and_it_means_the_same() {
    for message in messages() {
        let old = message.value();
        let today = (message.today)(&old).unwrap();
        let meant = (message.v1)(&old);
        assert!(meant.is_some(), "{}: the kept message is one of version 1", message.name);
        assert_eq!((message.v1)(&today), meant, "{}", message.name);
    }
}

#[test]
fn members_of_another_version_are_ignored_on_both_sides() {
    for message in messages() {
        let (old, newer) = (message.value(), with_unknown_members(&message.value()));
        assert_ne!(old, newer);
        assert_eq!((message.today)(&newer), (message.today)(&old), "{}: today", message.name);
        assert_eq!((message.v1)(&newer), (message.v1)(&old), "{}: version 1", message.name);
    }
}

/// Each member of a full message says something that its absence does not, to both sides: whoever stops writing or reading
/// one fails here.
#[test]
fn no_member_of_version_1_goes_unnoticed() {
    for message in messages().into_iter().filter(Message::is_full) {
        let old = message.value();
        for member in members(&old, "") {
            let less = without(&old, &member);
            for (side, read) in [("today", message.today), ("version 1", message.v1)] {
                assert_ne!(read(&less), read(&old), "{}{member}: {side}", message.name);
            }
        }
    }
}

#[test]
fn requests_of_version_1_keep_todays_bounds() {
    for message in messages().into_iter().filter(|message| message.name.starts_with("sync_request"))
    {
        let request: SyncRequest = serde_json::from_str(message.text).unwrap();
        assert_eq!(request.validate(), Ok(()), "{}", message.name);
    }
}
