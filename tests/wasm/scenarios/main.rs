//! Scenarios: the host's own rules first, then the Farebox filter against them.

mod admission;
mod assertion;
mod budget;
mod configuration;
mod gateway;
mod host_rules;
mod interleaving;
mod outage;
mod races;
mod recall;
mod redirects;
mod reports;
mod roll_call;
mod slots;
mod strict;
mod strict_outage;
mod success;
mod traces;
mod trap;
