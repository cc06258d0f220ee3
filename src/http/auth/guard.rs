//! The one place that lets requests in.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::caller::from_of;
use super::{Caller, Identified, Peer};
use crate::http::owner::OwnerSide;
use crate::http::problem::Problem;
use crate::http::words::Language;
use crate::store::Scope;

/// How much of a target that was asked for in vain goes into the audit log; our ids are shorter.
const MAX_TARGET_BYTES: usize = 64;

/// Who may come in by a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody in the LAN. The handler tells a stranger no more than it must.
    Public,
    /// Whoever holds a credential of this scope or a wider one.
    Needs(Scope),
}

/// What is decided about a route before anybody asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Who may come in.
    pub access: Access,
    /// What the audit log calls it; `None` for what changes nothing.
    pub action: Option<&'static str>,
}

/// The rules of all routes, by path and method.
#[derive(Debug, Default)]
pub(in crate::http) struct Rules(HashMap<&'static str, Vec<(Method, Rule)>>);

impl Rules {
    pub(in crate::http) fn add(&mut self, method: Method, path: &'static str, rule: Rule) {
        self.0.entry(path).or_default().push((method, rule));
    }

    /// Returns the rule for a request. One that no route takes still wants a credential, so that a stranger cannot map
    /// what is here; on the path of a public route it is met as that route is.
    fn of(&self, request: &Request) -> Rule {
        let unknown = Rule { access: Access::Needs(Scope::Read), action: None };
        let Some(path) = request.extensions().get::<MatchedPath>() else { return unknown };
        let Some(rules) = self.0.get(path.as_str()) else { return unknown };
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let exact = rules.iter().find(|(its, _)| its == method).map(|(_, rule)| *rule);
        exact.unwrap_or_else(|| {
            let is_public = rules.iter().any(|(_, rule)| rule.access == Access::Public);
            if is_public { Rule { access: Access::Public, action: None } } else { unknown }
        })
    }
}

/// What the guard works with.
#[derive(Clone)]
pub(in crate::http) struct Post {
    pub(in crate::http) side: Arc<OwnerSide>,
    pub(in crate::http) rules: Arc<Rules>,
}

/// Lets in whoever may come in, and tells the handlers who it is by an extension of the type [`Caller`]. What an owner asked
/// for and was refused stands in the audit log.
pub(in crate::http) async fn guard(State(post): State<Post>, mut request: Request, next: Next) -> Response {
    let side = &post.side;
    let peer = request.extensions().get::<Peer>().copied();
    if let Err(problem) = side.gate.check_source(&request, peer) {
        return problem.into_response();
    }
    let rule = post.rules.of(&request);
    let Identified { caller, cookie } = match side.gate.identify(request.headers(), peer, side.clock.now()).await {
        Ok(identified) => identified,
        Err(problem) => {
            if problem.status() == StatusCode::UNAUTHORIZED {
                side.audit_refused("stranger", &from_of(peer), "session.refused", "", problem.code()).await;
            }
            if rule.access != Access::Public {
                return problem.into_response();
            }
            Identified { caller: None, cookie: None }
        }
    };
    let refusal = refusal(rule.access, caller.as_ref());
    // Who signs in is nobody yet; that is written down where it is decided.
    let action = rule.action.filter(|_| rule.access != Access::Public);
    let audited = action.zip(caller.clone()).map(|(action, caller)| (action, caller, target_of(&request)));
    let mut response = match refusal {
        Some(problem) => problem.into_response(),
        None => {
            if let Some(mut caller) = caller {
                caller.language = Language::of(request.headers());
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
    };
    if let Some((action, Caller { who, from, .. }, target)) = audited
        && let Some(code) = refused_code(&response)
    {
        side.audit_refused(&who, &from, action, &target, code).await;
    }
    if let Some(cookie) = cookie
        && !response.headers().contains_key(header::SET_COOKIE)
    {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

fn refusal(access: Access, caller: Option<&Caller>) -> Option<Problem> {
    match (access, caller) {
        (Access::Public, _) => None,
        (Access::Needs(_), None) => {
            let detail = "Sign in on the owner's page, or send the owner's token or an API token as `Authorization: Bearer …`.";
            Some(Problem::new(StatusCode::UNAUTHORIZED, "not_signed_in", detail))
        }
        (Access::Needs(needed), Some(caller)) if caller.scope < needed => {
            let (has, needed) = (caller.scope.as_str(), needed.as_str());
            let detail = format!("This API token has the scope {has}; this takes one with the scope {needed}.");
            Some(Problem::new(StatusCode::FORBIDDEN, "scope_too_small", detail))
        }
        (Access::Needs(_), Some(_)) => None,
    }
}

/// Returns the code of an answer that refuses.
fn refused_code(response: &Response) -> Option<&'static str> {
    let status = response.status();
    let is_refusal = status.is_client_error() || status.is_server_error();
    is_refusal.then(|| response.extensions().get::<Problem>().map_or("bad_request", Problem::code))
}

/// Returns what a request is about: what stands in the last hole of its route's path, where that can be an id of ours.
fn target_of(request: &Request) -> String {
    let Some(route) = request.extensions().get::<MatchedPath>() else { return String::new() };
    let segments = route.as_str().split('/').zip(request.uri().path().split('/'));
    let last = segments.filter(|(pattern, _)| pattern.starts_with('{')).map(|(_, value)| value).last().unwrap_or_default();
    let is_id = last.len() <= MAX_TARGET_BYTES && last.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_id { last.to_owned() } else { String::new() }
}
