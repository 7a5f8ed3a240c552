//! `scion schedule`: branches that are made again and again, each in place of the one before.

use std::path::PathBuf;

use api::percent;
use clap::{Args, Subcommand};
use jiff::Zoned;
use serde_json::{Value, json};

use crate::args::moment;
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::{confirm, progress, wire};

/// Make, list, run and delete schedules of branches.
#[derive(Subcommand)]
pub enum Schedule {
    /// Make a branch at every planned time, and delete the one before.
    Create(Box<Create>),
    /// All schedules.
    List,
    /// Run a schedule now; its planned runs stay as they are.
    Run {
        /// Name or id of the schedule.
        name: String,
    },
    /// Delete a schedule; the branch it made last stays.
    Delete {
        /// Name or id of the schedule.
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// Make a branch at every planned time, and delete the one before.
#[derive(Args)]
pub struct Create {
    /// Name of the schedule, and of the branch it makes.
    name: String,
    /// When: minute, hour, day of the month, month, day of the week ("0 3 * * 1-5").
    #[arg(long, value_name = "LINE")]
    cron: String,
    /// Where that time is told [default: UTC].
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Branch to make it from [default: the project's default branch].
    #[arg(long, value_name = "BRANCH")]
    parent: Option<String>,
    /// How long before the planned time it begins: "1h", "2 days" [default: what is there when it runs].
    #[arg(long, value_name = "SPAN")]
    lag: Option<String>,
    /// How long it lives if nothing comes after it: "12h", "3 days" [default: until the next run].
    #[arg(long, value_name = "SPAN")]
    ttl: Option<String>,
    /// Compute units of its endpoint.
    #[arg(long, value_name = "UNITS")]
    compute_units: Option<f64>,
    /// Make the branch only; `scion endpoint start` gives it an endpoint later.
    #[arg(long, conflicts_with = "compute_units")]
    no_compute: bool,
    /// SQL to run on it first, as the owner of the database; if it fails, there is no new branch.
    #[arg(long, value_name = "SQL", conflicts_with = "sql_file")]
    sql: Option<String>,
    /// The same, from a file.
    #[arg(long, value_name = "FILE")]
    sql_file: Option<PathBuf>,
    /// Where to run it [default: the first database].
    #[arg(long, value_name = "DATABASE")]
    database: Option<String>,
}

impl Schedule {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        let session = session(global)?;
        match self {
            Self::Create(create) => create.run(&session, global.output),
            Self::List => list(&session, global.output),
            Self::Run { name } => run(&session, global.output, name),
            Self::Delete { name, yes } => delete(&session, global.output, name, *yes),
        }
    }
}

impl Create {
    fn run(&self, session: &Session, format: Format) -> Result<(), Failure> {
        let mut template = json!({});
        if let Some(parent) = &self.parent {
            template["parent_id"] = json!(wire::text(&session.branch(parent)?, "id"));
        }
        if let Some(lag) = &self.lag {
            template["lag_seconds"] = json!(moment::seconds(lag)?);
        }
        if let Some(ttl) = &self.ttl {
            template["ttl_seconds"] = json!(moment::seconds(ttl)?);
        }
        if self.no_compute {
            template["endpoints"] = json!([]);
        }
        if let Some(units) = self.compute_units {
            template["endpoints"] = json!([{
                "type": "read_write", "autoscaling_limit_min_cu": units, "autoscaling_limit_max_cu": units
            }]);
        }
        if let Some(sql) = self.statements()? {
            template["sql"] = json!(sql);
        }
        if let Some(database) = &self.database {
            template["database_name"] = json!(database);
        }
        let mut schedule = json!({ "name": self.name, "cron": self.cron, "template": template });
        if let Some(zone) = &self.time_zone {
            schedule["time_zone"] = json!(zone);
        }
        let body = json!({ "branch_schedule": schedule });
        let answer = session.client.post(&session.path("/branch_schedules"), &body)?;
        let made = answer.get("branch_schedule").unwrap_or(&Value::Null);
        match format {
            Format::Json => output::json(made),
            Format::Table => {
                let next = output::local_time(wire::text(made, "next_run_at"), &Zoned::now());
                output::words(&format!("{}   runs first at {next}", wire::text(made, "name")));
                output::data(wire::text(made, "id"));
            }
        }
        Ok(())
    }

    fn statements(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.sql_file else { return Ok(self.sql.clone()) };
        std::fs::read_to_string(path)
            .map(Some)
            .map_err(|error| Failure::new(Kind::Usage, format!("cannot read {}: {error}", path.display())))
    }
}

fn schedules(session: &Session) -> Result<Vec<Value>, Failure> {
    let answer = session.client.get(&session.path("/branch_schedules"))?;
    Ok(wire::list(&answer, "branch_schedules").to_vec())
}

/// The path of the schedule called `wanted`, and its name.
fn find(session: &Session, wanted: &str) -> Result<(String, String), Failure> {
    let all = schedules(session)?;
    let found = all.iter().find(|it| wire::text(it, "name") == wanted || wire::text(it, "id") == wanted);
    let found = found.ok_or_else(|| {
        Failure::new(Kind::NotFound, format!("there is no schedule {wanted}"))
            .hint("`scion schedule list` shows all")
    })?;
    let id = percent::encoded(wire::text(found, "id"));
    Ok((session.path(&format!("/branch_schedules/{id}")), wire::text(found, "name").to_owned()))
}

fn list(session: &Session, format: Format) -> Result<(), Failure> {
    let found = schedules(session)?;
    if format == Format::Json {
        output::json(&json!(found));
        return Ok(());
    }
    let now = Zoned::now();
    let time = |it: &Value, field| {
        wire::some_text(it, field).map_or_else(|| "-".to_owned(), |text| output::local_time(text, &now))
    };
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|it| {
            let zone = wire::some_text(it, "time_zone").unwrap_or("UTC");
            vec![
                wire::text(it, "name").to_owned(),
                format!("{} {zone}", wire::text(it, "cron")),
                time(it, "next_run_at"),
                time(it, "last_run_at"),
                wire::some_text(it, "last_error").unwrap_or("-").replace('\n', " "),
            ]
        })
        .collect();
    output::table(&["NAME", "CRON", "NEXT RUN", "LAST RUN", "ERROR"], &rows);
    Ok(())
}

fn run(session: &Session, format: Format, name: &str) -> Result<(), Failure> {
    let (path, name) = find(session, name)?;
    let progress = progress::start(format!("running schedule {name}"));
    let answer = session.client.post(&format!("{path}/run"), &json!({}))?;
    session.client.wait(session.project_id(), &answer)?;
    drop(progress);
    if format == Format::Json {
        output::json(&answer);
        return Ok(());
    }
    let branch = answer.get("branch").unwrap_or(&Value::Null);
    output::words(&format!("{name} made branch {}", wire::text(branch, "name")));
    output::data(wire::text(branch, "id"));
    Ok(())
}

fn delete(session: &Session, format: Format, name: &str, yes: bool) -> Result<(), Failure> {
    let (path, name) = find(session, name)?;
    confirm::destructive(&format!("delete schedule {name}"), yes)?;
    let answer = session.client.delete(&path)?;
    match format {
        Format::Json => output::json(&answer),
        Format::Table => output::words(&format!("deleted schedule {name}; the branch it made last stays")),
    }
    Ok(())
}
