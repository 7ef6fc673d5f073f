//! Workers of one process that run in the middle of each other: schedules tried by a model checker.
//!
//! Workers share nothing but shared data, so another worker can come in only where one of them touches it. There
//! `shuttle` decides who runs next. Small pieces are tried in every order; whole processes in many random ones, the same
//! ones every time. A schedule that fails is printed; `FAREBOX_SCHEDULE` has it played again, with one test named.

mod control;
mod explore;
mod gateway;
mod record;
