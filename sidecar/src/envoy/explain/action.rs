//! What Envoy does with a request once the filters have let it pass.

use super::super::tree::Node;
use super::Scene;

/// The route's action in a few words; what is worth knowing besides goes into the notes.
pub(super) fn told(scene: &Scene<'_>, route: Option<&Node>, notes: &mut Vec<String>) -> String {
    tls(scene, notes);
    let Some(route) = route else {
        notes.push(
            "no route takes this request: filters run all the same, so a rule for its path charges it before Envoy answers 404".to_owned(),
        );
        return "404: no route".to_owned();
    };
    if let Some(action) = route.get("route") {
        remarks(action, route, notes);
        let timeout = action.text_of("timeout").map(|timeout| format!(", timeout {timeout}"));
        return forwarded(action) + &timeout.unwrap_or_default();
    }
    if let Some(redirect) = route.get("redirect") {
        notes.push("the filter runs before Envoy answers with the redirect: the call is metered as the rule says".to_owned());
        let code = redirect.text_of("response_code").unwrap_or("MOVED_PERMANENTLY");
        return format!("redirect ({code}), answered by Envoy");
    }
    if let Some(direct) = route.get("direct_response") {
        notes.push(
            "the filter runs before Envoy answers: the call is metered as the rule says".to_owned(),
        );
        return format!("{}, answered by Envoy", direct.word("status"));
    }
    "an action that is not known here".to_owned()
}

fn tls(scene: &Scene<'_>, notes: &mut Vec<String>) {
    let wanted = scene.virtual_host.map_or("", |host| host.word("require_tls"));
    if ["ALL", "EXTERNAL_ONLY"].contains(&wanted) && scene.asked.scheme == "http" {
        notes.push(format!(
            "require_tls is {wanted}: a call without TLS gets a redirect to https from Envoy, after the filters"
        ));
    }
}

fn forwarded(action: &Node) -> String {
    if let Some(cluster) = action.text_of("cluster") {
        return format!("to cluster {cluster}");
    }
    if let Some(header) = action.text_of("cluster_header") {
        return format!("to the cluster that the header {header} names");
    }
    if let Some(weighted) = action.get("weighted_clusters") {
        let share = |cluster: &Node| {
            format!("{} ({})", cluster.word("name"), cluster.text_of("weight").unwrap_or("1"))
        };
        let shares: Vec<String> = weighted.list("clusters").iter().map(share).collect();
        return format!("to clusters by weight: {}", shares.join(", "));
    }
    "to a cluster that a plugin names".to_owned()
}

fn remarks(action: &Node, route: &Node, notes: &mut Vec<String>) {
    if action.get("internal_redirect_policy").is_some() {
        notes.push("internal redirects: the call is charged once, by the first metered route that it passes; the route it is sent on to may still refuse it".to_owned());
    }
    if action.get("retry_policy").is_some() {
        notes.push("retries do not run the filter again: they are not charged".to_owned());
    }
    let rewrites = ["prefix_rewrite", "regex_rewrite", "path_rewrite_policy", "path_rewrite"];
    if rewrites.iter().any(|name| action.get(name).is_some()) {
        notes.push(
            "the path is rewritten after the filter: rules look at the path before".to_owned(),
        );
    }
    let weighted = action.path(&["weighted_clusters"]).map_or(&[][..], |all| all.list("clusters"));
    if weighted.iter().any(|cluster| cluster.get("typed_per_filter_config").is_some()) {
        notes.push(
            "a weighted cluster changes filters (typed_per_filter_config): not evaluated here"
                .to_owned(),
        );
    }
    if route.get("typed_per_filter_config").is_some_and(|all| !all.entries().is_empty()) {
        notes.push(
            "the route changes filters (typed_per_filter_config): see the filters".to_owned(),
        );
    }
}
