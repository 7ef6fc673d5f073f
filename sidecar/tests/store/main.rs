//! The database side against a real server: MariaDB of this machine, or the one that `FAREBOX_TEST_DATABASE` names.

mod accounts;
mod adjustments;
mod audit;
mod calls;
mod concurrency;
mod credit;
mod database;
mod explain;
mod faults;
mod fixture;
mod invariants;
mod leases;
mod locked;
mod lost;
mod migrations;
mod model;
mod orders;
mod outbox;
mod overload;
mod prices;
mod protocol;
mod replay;
mod speed;
mod standing;
mod stories;
mod views;
