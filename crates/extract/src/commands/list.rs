//! `list`: what the repository holds.

use serde_json::{Value, json};
use strongroom_core::size::ByteSize;
use strongroom_core::time::from_micros;
use strongroom_repository::HeldStream;

use crate::archive::{Archive, Found};
use crate::cli::Format;
use crate::exit::Exit;
use crate::output;

pub(crate) fn run(archive: &Archive, format: Format) -> Exit {
    match format {
        Format::Json => output::json(&json!({
            "schema": 1,
            "repository_id": archive.repository.id(),
            "backups": archive.backups.iter().map(document).collect::<Vec<_>>(),
            "logs": archive.logs.iter().map(log).collect::<Vec<_>>(),
            "damaged": archive.damaged.iter().map(|error| error.public().to_owned()).collect::<Vec<_>>(),
        })),
        Format::Table => {
            let rows: Vec<Vec<String>> = archive.backups.iter().map(row).collect();
            if rows.is_empty() {
                output::note("the repository holds no sealed backup");
            } else {
                output::table(
                    &["PROJECT", "INSTANCE", "ENGINE", "NAME", "SEALED", "SIZE", "STATE", "ATTEMPT"],
                    &rows,
                );
                output::note("  next: strongroom-extract extract NAME --target DIR");
            }
            for stream in &archive.logs {
                let (ranges, bytes) = (stream.ranges.len(), ByteSize::new(stream.bytes));
                output::note(format_args!(
                    "  log {}: {bytes} stored, ranges without a gap: {ranges}",
                    stream.id
                ));
            }
        }
    }
    super::say_damaged(archive)
}

fn document(found: &Found) -> Value {
    let (summary, catalog) = (&found.summary, &found.summary.catalog);
    json!({
        "project_id": catalog.project_id,
        "project_name": catalog.project_name,
        "instance_id": catalog.instance_id,
        "instance_name": catalog.instance_name,
        "engine": catalog.engine,
        "version": summary.facts.identity.version,
        "id": catalog.backup_id,
        "name": catalog.backup_name,
        "description": catalog.description,
        "attempt": summary.attempt.to_string(),
        "created": from_micros(catalog.created_us).to_string(),
        "sealed": summary.sealed_at.to_string(),
        "forgotten": summary.forgotten,
        "source_bytes": summary.totals.source_bytes,
        "stored_bytes": summary.stored_bytes,
        "members": summary.totals.members,
        "manifest_digest": summary.manifest_digest,
        "warnings": summary.facts.warnings,
    })
}

fn log(stream: &HeldStream) -> Value {
    json!({
        "stream": stream.id,
        "engine": stream.about.as_ref().map(|about| about.engine),
        "facts": stream.about.as_ref().map(|about| &about.facts),
        "ranges": stream.ranges,
        "objects": stream.objects,
        "stored_bytes": stream.bytes,
    })
}

fn row(found: &Found) -> Vec<String> {
    let (summary, catalog) = (&found.summary, &found.summary.catalog);
    vec![
        catalog.project_name.clone(),
        catalog.instance_name.clone(),
        format!("{} {}", catalog.engine, summary.facts.identity.version),
        catalog.backup_name.clone(),
        format!("{:.0}", summary.sealed_at).replace('T', " ").replace('Z', " UTC"),
        ByteSize::new(summary.totals.source_bytes).to_string(),
        if summary.forgotten { "deleted" } else { "there" }.to_owned(),
        summary.attempt.to_string(),
    ]
}
