//! `cargo xtask bench`: what Farebox costs, as ratios of figures that were measured side by side in this run.
//!
//! Absolute numbers depend on the machine; what is compared runs one after the other on the same servers, in turns, so
//! that a machine that slows down slows both.

mod deduct;
mod naive;

use anyhow::Result;
use comfy_table::Table;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(deduct::measure())?;
    let mut table = Table::new();
    table.set_header(["deducts per second", "naive", "farebox", "ratio", "goal"]);
    for deduct::Measured { what, naive, farebox } in measured {
        let ratio = format!("{:.1} ×", farebox / naive);
        table.add_row([
            what.to_owned(),
            format!("{naive:.0}"),
            format!("{farebox:.0}"),
            ratio,
            "≥ 3 ×".to_owned(),
        ]);
    }
    println!("{table}");
    println!(
        "naive: a Redis lock per (user, service, month), then one transaction per call with SELECT … FOR UPDATE; it writes the same rows."
    );
    Ok(())
}
