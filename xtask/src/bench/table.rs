//! What was measured, and the table made of it: medians, one line for each tool.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::meter::Cost;
use super::postgres::Operation;
use crate::say;

const MIB: f64 = 1_048_576.0;

/// The costs of all runs, in the order in which tools were met first.
#[derive(Default)]
pub(super) struct Measured {
    costs: BTreeMap<(Operation, usize), Vec<Cost>>,
    tools: Vec<String>,
    /// Bytes of the files to restore.
    pub(super) source_bytes: u64,
}

impl Measured {
    /// Notes one cost and says it.
    pub(super) fn keep(&mut self, operation: Operation, tool: &str, cost: Cost) {
        say::note(format_args!(
            "{}, {tool}: {:.2} s, cpu {:.2} s + server {:.2} s, peak {} MiB, stored {:.1} MiB in {} objects",
            operation.title(),
            cost.wall_s,
            cost.tool_cpu_s,
            cost.server_cpu_s,
            peaks(&cost),
            mib(cost.stored_bytes),
            cost.objects,
        ));
        let at = self.tools.iter().position(|known| known == tool).unwrap_or_else(|| {
            self.tools.push(tool.to_owned());
            self.tools.len() - 1
        });
        self.costs.entry((operation, at)).or_default().push(cost);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.costs.is_empty()
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "| Operation | Tool | Wall s | CPU tool s | CPU server s | Peak memory MiB | Stored MiB | % of data | Objects |\n\
             |---|---|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        for ((operation, tool), costs) in &self.costs {
            let cost = median_cost(costs);
            let stored = |value: String| if cost.objects == 0 { "–".to_owned() } else { value };
            let _ = writeln!(
                text,
                "| {} | {} | {:.2} | {:.2} | {:.2} | {} | {} | {} | {} |",
                operation.title(),
                self.tools[*tool],
                cost.wall_s,
                cost.tool_cpu_s,
                cost.server_cpu_s,
                peaks(&cost),
                stored(format!("{:.1}", mib(cost.stored_bytes))),
                stored(format!("{:.1}", 100.0 * mib(cost.stored_bytes) / mib(self.source_bytes))),
                stored(cost.objects.to_string()),
            );
        }
        text
    }
}

/// Our server and our command each have a bar of their own.
fn peaks(cost: &Cost) -> String {
    let own = format!("{:.0}", mib(cost.peak_bytes));
    if cost.peak_beside_bytes == 0 { own } else { format!("{own} + {:.0}", mib(cost.peak_beside_bytes)) }
}

fn median_cost(costs: &[Cost]) -> Cost {
    let of = |value: fn(&Cost) -> f64| median(costs.iter().map(value).collect());
    let of_whole = |value: fn(&Cost) -> u64| {
        let mut values: Vec<u64> = costs.iter().map(value).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    Cost {
        wall_s: of(|cost| cost.wall_s),
        tool_cpu_s: of(|cost| cost.tool_cpu_s),
        server_cpu_s: of(|cost| cost.server_cpu_s),
        peak_bytes: of_whole(|cost| cost.peak_bytes),
        peak_beside_bytes: of_whole(|cost| cost.peak_beside_bytes),
        stored_bytes: of_whole(|cost| cost.stored_bytes),
        objects: of_whole(|cost| cost.objects),
    }
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes shown with a few digits")]
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        let of = |values: &[f64]| format!("{:.2}", median(values.to_vec()));
        assert_eq!([of(&[3.0, 1.0, 2.0]), of(&[4.0, 1.0]), of(&[])], ["2.00", "2.50", "0.00"]);
    }

    #[test]
    fn a_line_of_the_table_holds_medians_in_the_order_of_operations() {
        let mut measured = Measured { source_bytes: 4 << 20, ..Measured::default() };
        let cost = |wall_s, objects| Cost { wall_s, objects, stored_bytes: 1 << 20, ..Cost::default() };
        measured.keep(Operation::Restore, "x", cost(9.0, 0));
        for wall_s in [3.0, 1.0, 2.0] {
            measured.keep(Operation::First, "x", cost(wall_s, 7));
        }
        let table = measured.table();
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(lines[0], "| first backup | x | 2.00 | 0.00 | 0.00 | 0 | 1.0 | 25.0 | 7 |");
        assert_eq!(lines[1], "| restore | x | 9.00 | 0.00 | 0.00 | 0 | – | – | – |");
    }
}
