//! `cargo xtask bench`: what Farebox costs, as ratios of figures that were measured side by side in this run.
//!
//! Absolute numbers depend on the machine; what is compared runs one after the other on the same servers, in turns, so
//! that a machine that slows down slows both.

mod deduct;
mod naive;
mod traces;

use anyhow::Result;
use comfy_table::Table;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(deducts())?;
    runtime.block_on(traces())
}

async fn deducts() -> Result<()> {
    let measured = deduct::measure().await?;
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

async fn traces() -> Result<()> {
    let traced = traces::measure().await?;
    let without = traced.first().map_or(0.0, |measured| measured.per_second);
    let mut table = Table::new();
    table.set_header(["deducts by HTTP", "per second", "ratio"]);
    for traces::Measured { traced, per_second } in traced {
        let ratio = format!("{:.2} ×", per_second / without);
        table.add_row([format!("traced: {traced}"), format!("{per_second:.0}"), ratio]);
    }
    println!("{table}");
    Ok(())
}
