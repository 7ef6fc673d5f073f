//! `farebox token`: operators' tokens for `/admin/v1/`.

use clap::Subcommand;
use serde::Serialize;

use super::account::actor;
use super::failure::Failure;
use super::table::{Column, facts, table};
use super::{OutputArgs, print, print_json};
use crate::app::{App, MadeToken, NewToken, Role, TokenFilter, TokenPage, TokenView};
use crate::config::price_file;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token. It is shown once and not kept: only its hash is.
    Create {
        /// Whose it is: the audit log names it.
        #[arg(long)]
        name: String,
        /// What it lets its owner do: viewer, operator or admin.
        #[arg(long)]
        role: Role,
        /// From when on it lets nobody in, such as 2027-01-31T00:00:00Z; never when it is not said.
        #[arg(long, value_name = "MOMENT", value_parser = price_file::moment)]
        expires: Option<chrono::DateTime<chrono::Utc>>,
        /// Why, for the audit log.
        #[arg(long, default_value = "no reason given")]
        reason: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List tokens, the newest first, a page at a time.
    List {
        /// Revoked ones too.
        #[arg(long)]
        revoked: bool,
        /// How many at most, 1 to 200.
        #[arg(long)]
        limit: Option<u32>,
        /// Go on where the page before ended.
        #[arg(long)]
        cursor: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// End a token: within a second it lets nobody in at any sidecar.
    Revoke {
        /// Its name or its id.
        token: String,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub(super) async fn execute(command: TokenCommand, app: &App) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { name, role, expires, reason, output } => {
            let new = NewToken { name, role, expires, reason, actor: actor() };
            created(&app.create_token(&new).await?, output)
        }
        TokenCommand::List { revoked, limit, cursor, output } => {
            let page = app.tokens(&TokenFilter { revoked, limit, cursor }).await?;
            if output.json { print_json(&page) } else { print(&describe_page(&page)) }
        }
        TokenCommand::Revoke { token, reason, output } => {
            let view = app.revoke_token(&token, &reason, &actor()).await?;
            if output.json { print_json(&view) } else { print(&describe(&view)) }
        }
    }
}

#[derive(Debug, Serialize)]
struct Created<'m> {
    token: &'m str,
    #[serde(flatten)]
    view: &'m TokenView,
}

fn created(made: &MadeToken, output: OutputArgs) -> Result<(), Failure> {
    let MadeToken { token, view } = made;
    let token = token.expose();
    if output.json {
        return print_json(&Created { token, view });
    }
    print(&format!("{}\n{token}\n\nkeep it: nobody can show it again\n", describe(view)))
}

fn describe(view: &TokenView) -> String {
    let mut lines = vec![
        ("token", view.name.clone()),
        ("id", view.id.clone()),
        ("role", view.role.clone()),
        ("state", view.state.to_owned()),
        ("made", format!("{} by {}", view.created_at, view.created_by)),
    ];
    if let Some(expires) = &view.expires_at {
        lines.push(("expires", expires.clone()));
    }
    if let (Some(at), Some(by)) = (&view.revoked_at, &view.revoked_by) {
        lines.push(("revoked", format!("{at} by {by}")));
    }
    facts(&lines)
}

fn describe_page(page: &TokenPage) -> String {
    if page.tokens.is_empty() {
        return "no tokens\n".to_owned();
    }
    let columns =
        ["name", "role", "state", "id", "made at", "made by", "expires at", "last used at"];
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let rows = page.tokens.iter().map(|token| {
        vec![
            token.name.clone(),
            token.role.clone(),
            token.state.to_owned(),
            token.id.clone(),
            token.created_at.clone(),
            token.created_by.clone(),
            or_dash(&token.expires_at),
            or_dash(&token.last_used_at),
        ]
    });
    let mut text = table(&columns.map(Column::Text), rows);
    if let Some(cursor) = &page.next_cursor {
        text.push_str(&format!("\nthere are older ones: --cursor {cursor}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_well_and_show_no_secret() {
        let token = TokenView {
            id: "3f9c2a71d0b4".to_owned(),
            name: "ann".to_owned(),
            role: "operator".to_owned(),
            state: "active",
            created_by: "cli:root".to_owned(),
            created_at: "2026-01-31T08:00:00.000Z".to_owned(),
            expires_at: Some("2027-01-31T08:00:00.000Z".to_owned()),
            last_used_at: None,
            revoked_by: None,
            revoked_at: None,
        };
        let page = TokenPage { tokens: vec![token.clone()], next_cursor: Some("7".to_owned()) };
        insta::assert_snapshot!(describe_page(&page), @r"
        name  role      state   id            made at                   made by   expires at                last used at
        ann   operator  active  3f9c2a71d0b4  2026-01-31T08:00:00.000Z  cli:root  2027-01-31T08:00:00.000Z  -

        there are older ones: --cursor 7
        ");
        insta::assert_snapshot!(describe(&token), @r"
        token    ann
        id       3f9c2a71d0b4
        role     operator
        state    active
        made     2026-01-31T08:00:00.000Z by cli:root
        expires  2027-01-31T08:00:00.000Z
        ");
        let nothing = TokenPage { tokens: Vec::new(), next_cursor: None };
        assert_eq!(describe_page(&nothing), "no tokens\n");
    }
}
