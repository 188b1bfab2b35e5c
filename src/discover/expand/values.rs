//! What a release says about images when its chart is not at hand: by the values that it gives the chart.

use super::super::held::Held;
use super::super::nested::from_json;
use super::super::tree::{How, Kind, Walk};
use super::super::{Finding, Findings, Origin, Problem, Scope, held, rules};
use crate::chart::ValuesInput;

/// Values of one release that are looked at.
const MAX_VALUES: usize = 100_000;

/// The images that `values` name in full, beside the problem that keeps their chart from being rendered. The values of the
/// object itself stand at `own`.
pub(super) fn instead(
    object: &Held,
    own: &str,
    values: &ValuesInput,
    problem: Problem,
    scope: &Scope,
) -> Findings {
    let mut found = Findings { problems: vec![problem], ..Findings::default() };
    // Values that cannot be read are told once their chart is there.
    let tree = values.merge().ok().and_then(|tree| from_json(&tree, &mut { MAX_VALUES }));
    let Some(tree) = tree else { return found };
    let mut walk = Walk::new(Kind::Values, Vec::new());
    walk.value(&tree, "");
    let outer = object.outer();
    for hit in walk.hits {
        // What is off may be on by the chart's own values: nobody knows.
        let rule = match (&hit.switch, hit.how) {
            (None, _) => &rules::RELEASE_VALUE,
            (Some(_), How::Split) => &rules::VALUES_SPLIT,
            (Some(_), _) => &rules::VALUES,
        };
        if hit.switch.is_some() && !scope.include_disabled {
            continue;
        }
        let node = object.at(own).and_then(|values| held::at(values, &hit.field));
        let field = match node {
            Some(_) => object.field(&format!("{own}.{}", hit.field)),
            None => format!("values: {}", hit.field),
        };
        let origin = Origin {
            document: outer.document,
            line: object.line(node.unwrap_or(&object.node)),
            column: node.and_then(|n| object.line(n).map(|_| n.column)),
            kind: Some(outer.kind.clone()).filter(|k| !k.is_empty()),
            namespace: outer.namespace.clone(),
            name: outer.name.clone(),
            field: Some(field),
            switch: hit.switch,
            ..Origin::of_source(object.source.clone())
        };
        found.findings.push(Finding::new(hit.image, rule, origin));
    }
    found
}
