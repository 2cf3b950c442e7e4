//! Many backups one after the other: what each of them stores, and whether the last one restores
//! as fast as the first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context;

use super::meter::Cost;
use super::postgres::{Digests, Tools, restore};
use super::table::{median, mib};
use crate::cluster::Shop;
use crate::{interrupt, say};

const BACKUPS: usize = 24;
/// Which of them are restored: a whole cycle of re-basing, and then some.
const RESTORED: [usize; 10] = [1, 2, 3, 4, 5, 6, 9, 14, 19, 24];

/// What one tool did.
#[derive(Default)]
pub(super) struct Deep {
    full_bytes: u64,
    later: Vec<Cost>,
    first_restore_s: f64,
    /// Backup number and seconds.
    restores: Vec<(usize, f64)>,
}

/// Takes a full backup with every tool that keeps one, then the others, each after one row in a
/// hundred changed; then restores some of them and compares each with what the source held then.
pub(super) fn measure(shop: &Shop, tools: &mut Tools) -> anyhow::Result<BTreeMap<String, Deep>> {
    let mut deep: BTreeMap<String, Deep> = BTreeMap::new();
    let mut states: Vec<Digests> = Vec::with_capacity(BACKUPS + 1);
    for number in 0..=BACKUPS {
        if number > 0 {
            shop.change_one_percent()?;
        }
        states.push(shop.digests()?);
        for tool in tools.iter_mut() {
            interrupt::check()?;
            let cost = tool.back_up(shop, &name(number)).with_context(|| tool.name().to_owned())?;
            if cost.objects == 0 {
                continue;
            }
            say::note(format_args!(
                "backup {number} of {BACKUPS}, {}: {:.2} s, stored {:.1} MiB",
                tool.name(),
                cost.wall_s,
                mib(cost.stored_bytes)
            ));
            let entry = deep.entry(tool.name().to_owned()).or_default();
            if number == 0 { entry.full_bytes = cost.stored_bytes } else { entry.later.push(cost) }
        }
    }
    for tool in tools.iter_mut() {
        let Some(entry) = deep.get_mut(tool.name()) else { continue };
        let mut seconds = |number: usize| -> anyhow::Result<f64> {
            interrupt::check()?;
            let restored =
                restore(shop, &states[number], |target| tool.restore(shop, &name(number), target))?;
            let (cost, _) = restored.context("a tool that keeps backups restores them")?;
            say::note(format_args!("restore of backup {number}: {:.2} s", cost.wall_s));
            Ok(cost.wall_s)
        };
        let mut firsts = vec![seconds(0)?];
        for number in RESTORED {
            entry.restores.push((number, seconds(number)?));
        }
        firsts.extend([seconds(0)?, seconds(0)?]);
        entry.first_restore_s = median(firsts);
    }
    Ok(deep)
}

fn name(number: usize) -> String {
    format!("backup-{number:02}")
}

pub(super) fn table(runs: &[BTreeMap<String, Deep>]) -> String {
    let mut text = format!(
        "\n{BACKUPS} backups, each after 1 % of the rows of the biggest table changed at random; \
         {} of them restored, started and compared.\n\n\
         | Tool | Full MiB | Each, mean MiB | Mean % of full | Greatest % | Objects, mean | Wall s, median | Restore of the full s | Slowest restore s | × |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        RESTORED.len()
    );
    for (tool, deep) in runs.iter().flatten() {
        let each = |value: fn(&Cost) -> f64| deep.later.iter().map(value).collect::<Vec<f64>>();
        let stored = each(|cost| mib(cost.stored_bytes));
        #[expect(clippy::cast_precision_loss, reason = "a few dozen backups, numbers of files")]
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        #[expect(clippy::cast_precision_loss, reason = "numbers of files")]
        let objects = each(|cost| cost.objects as f64);
        let full = mib(deep.full_bytes);
        let greatest = stored.iter().copied().fold(0.0, f64::max);
        let slowest = deep.restores.iter().map(|(_, seconds)| *seconds).fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "| {tool} | {full:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {:.2} | {:.2} | {slowest:.2} | {:.2} |",
            mean(&stored),
            100.0 * mean(&stored) / full,
            100.0 * greatest / full,
            mean(&objects),
            median(each(|cost| cost.wall_s)),
            deep.first_restore_s,
            slowest / deep.first_restore_s,
        );
    }
    text
}
