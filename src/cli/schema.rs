//! `doorward schema`: JSON Schemas for editors and other programs.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use super::Status;
use crate::document::suggest;
use crate::schema::{ALL, Schema};

#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    /// Which one; without it, the names are listed
    pub name: Option<String>,
    /// Writes every schema to this folder, as NAME.schema.json
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    pub write: Option<PathBuf>,
}

fn after_help() -> String {
    let names: String = ALL
        .iter()
        .map(|schema| format!("  {:<14} {}\n", schema.name, schema.about))
        .collect();
    format!(
        "Schemas:\n{names}\nExamples:\n  doorward schema rule > rules/schema/rule.schema.json\n  \
         doorward schema --write rules/schema\n\n\
         An editor completes and explains a rule file that begins with\n  \
         # yaml-language-server: $schema=schema/rule.schema.json"
    )
}

/// # Errors
/// Where there is no such schema, or it cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(folder) = args.write {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
        for schema in ALL {
            let path = folder.join(format!("{}.schema.json", schema.name));
            std::fs::write(&path, schema.text())
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        return Ok(Status::Done.into());
    }
    let mut out = std::io::stdout().lock();
    match args.name {
        None => {
            for schema in ALL {
                writeln!(out, "{:<14} {}", schema.name, schema.about)?;
            }
        }
        Some(name) => {
            let schema = Schema::named(&name).ok_or_else(|| {
                let names: Vec<&str> = ALL.iter().map(|schema| schema.name).collect();
                let help = suggest(&name, &names);
                Status::Usage.error(anyhow!("there is no schema `{name}`: {help}"))
            })?;
            out.write_all(schema.text().as_bytes())?;
        }
    }
    out.flush()?;
    Ok(Status::Done.into())
}
