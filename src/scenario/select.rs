//! Which drills to run.

use globset::Glob;

use super::Drill;

/// The drills that carry one of the tags (if any are given) and have one of the names (if any are given: exact, or a
/// pattern like `shop-*`), in their order.
///
/// # Errors
///
/// A name that is neither a drill's nor a valid pattern: what is wrong with it, as a fragment.
pub fn select(drills: Vec<Drill>, tags: &[String], names: &[String]) -> Result<Vec<Drill>, String> {
    let mut patterns = Vec::new();
    for name in names {
        let is_exact = drills.iter().any(|it| it.name == *name);
        let pattern = if is_exact { super::paths::literal(name) } else { name.clone() };
        let glob = Glob::new(&pattern).map_err(|error| format!("`{name}` is not a valid pattern: {}", error.kind()))?;
        patterns.push((name, glob.compile_matcher()));
    }
    let has_tag = |it: &Drill| tags.is_empty() || it.tags.iter().any(|tag| tags.contains(tag));
    let has_name = |it: &Drill| {
        patterns.is_empty() || patterns.iter().any(|(name, pattern)| it.name == **name || pattern.is_match(&it.name))
    };
    Ok(drills.into_iter().filter(|it| has_tag(it) && has_name(it)).collect())
}
