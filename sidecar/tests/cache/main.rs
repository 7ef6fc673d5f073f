//! What is kept in Redis, against a real one, and what happens without it.

mod away;
mod fixture;
mod hint;
mod lock;
