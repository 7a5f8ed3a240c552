//! `scion schedule`: branches that are made again and again, each in place of the one before.

use std::path::PathBuf;

use api::endpoint::{BranchEndpointCreate, EndpointOptions, EndpointType};
use api::percent;
use api::schedule::{
    BranchSchedule, BranchScheduleCreate, BranchScheduleCreateRequest, BranchScheduleResponse,
    BranchScheduleRun, BranchTemplate,
};
use clap::{Args, Subcommand};
use jiff::Zoned;
use serde_json::json;

use crate::args::moment;
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output::{self, Format};
use crate::resolve::{Session, session};
use crate::wire::{self, Said};
use crate::{confirm, progress};

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
        let parent = self.parent.as_deref().map(|parent| session.branch(parent)).transpose()?;
        let seconds = |span: &Option<String>| span.as_deref().map(moment::seconds).transpose();
        let template = BranchTemplate {
            parent_id: parent.map(|parent| parent.id.clone()),
            lag_seconds: seconds(&self.lag)?,
            ttl_seconds: seconds(&self.ttl)?,
            endpoints: self.endpoints(),
            sql: self.statements()?,
            database_name: self.database.clone(),
            ..BranchTemplate::default()
        };
        let branch_schedule = BranchScheduleCreate {
            name: self.name.clone(),
            cron: self.cron.clone(),
            time_zone: self.time_zone.clone(),
            template,
        };
        let body = BranchScheduleCreateRequest { branch_schedule };
        let answer: Said<BranchScheduleResponse> =
            session.client.post(&session.path("/branch_schedules"), body)?;
        let made = &answer.branch_schedule;
        match format {
            Format::Json => output::json(answer.json_of::<BranchSchedule>()),
            Format::Table => {
                let next = made.next_run_at.as_deref().unwrap_or_default();
                let next = output::local_time(next, &Zoned::now());
                output::words(&format!("{}   runs first at {next}", made.name));
                output::data(&made.id);
            }
        }
        Ok(())
    }

    fn endpoints(&self) -> Option<Vec<BranchEndpointCreate>> {
        if self.no_compute {
            return Some(Vec::new());
        }
        let options = EndpointOptions {
            autoscaling_limit_min_cu: self.compute_units,
            autoscaling_limit_max_cu: self.compute_units,
            ..EndpointOptions::default()
        };
        self.compute_units.map(|_| vec![BranchEndpointCreate { kind: EndpointType::ReadWrite, options }])
    }

    fn statements(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.sql_file else { return Ok(self.sql.clone()) };
        std::fs::read_to_string(path)
            .map(Some)
            .map_err(|error| Failure::new(Kind::Usage, format!("cannot read {}: {error}", path.display())))
    }
}

fn schedules(session: &Session) -> Result<Vec<Said<BranchSchedule>>, Failure> {
    session.client.many(&session.path("/branch_schedules"))
}

/// The path of the schedule called `wanted`, and its name.
fn find(session: &Session, wanted: &str) -> Result<(String, String), Failure> {
    let all = schedules(session)?;
    let found = all.iter().find(|it| it.name == wanted || it.id == wanted);
    let found = found.ok_or_else(|| {
        Failure::new(Kind::NotFound, format!("there is no schedule {wanted}"))
            .hint("`scion schedule list` shows all")
    })?;
    let id = percent::encoded(&found.id);
    Ok((session.path(&format!("/branch_schedules/{id}")), found.name.clone()))
}

fn list(session: &Session, format: Format) -> Result<(), Failure> {
    let found = schedules(session)?;
    if format == Format::Json {
        output::json(&wire::array(&found));
        return Ok(());
    }
    let now = Zoned::now();
    let time = |text: &Option<String>| {
        text.as_deref().map_or_else(|| "-".to_owned(), |text| output::local_time(text, &now))
    };
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|it| {
            vec![
                it.name.clone(),
                format!("{} {}", it.cron, it.time_zone.as_deref().unwrap_or("UTC")),
                time(&it.next_run_at),
                time(&it.last_run_at),
                it.last_error.as_deref().unwrap_or("-").replace('\n', " "),
            ]
        })
        .collect();
    output::table(&["NAME", "CRON", "NEXT RUN", "LAST RUN", "ERROR"], &rows);
    Ok(())
}

fn run(session: &Session, format: Format, name: &str) -> Result<(), Failure> {
    let (path, name) = find(session, name)?;
    let progress = progress::start(format!("running schedule {name}"));
    let answer: Said<BranchScheduleRun> = session.client.post(&format!("{path}/run"), json!({}))?;
    session.client.wait(session.project_id(), &answer.operations)?;
    drop(progress);
    if format == Format::Json {
        output::json(answer.json());
        return Ok(());
    }
    output::words(&format!("{name} made branch {}", answer.branch.name));
    output::data(&answer.branch.id);
    Ok(())
}

fn delete(session: &Session, format: Format, name: &str, yes: bool) -> Result<(), Failure> {
    let (path, name) = find(session, name)?;
    confirm::destructive(&format!("delete schedule {name}"), yes)?;
    let answer: Option<Said<BranchScheduleResponse>> = session.client.delete(&path)?;
    match format {
        Format::Json => output::json(wire::json_or_null(answer.as_ref())),
        Format::Table => output::words(&format!("deleted schedule {name}; the branch it made last stays")),
    }
    Ok(())
}
