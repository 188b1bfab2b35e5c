//! A set of templates that know each other, and their execution by minijinja.

use std::sync::Arc;

use minijinja::value::Value;

use super::error::TemplateError;
use super::exec;
use super::runtime::{Runtime, parse_file};
use super::{Env, Limits};

/// A set of templates: the files of a chart and of its dependencies, with all that they define.
#[derive(Debug)]
pub struct Engine {
    rt: Arc<Runtime>,
}

impl Engine {
    /// An empty set.
    pub fn new(env: Arc<dyn Env>, limits: Limits) -> Self {
        let rt = Arc::new(Runtime::new(env, limits));
        rt.start(exec::environment(&rt));
        Self { rt }
    }

    /// Adds a template file and what it defines. A later definition of a name replaces an earlier one unless it is
    /// empty, as in `text/template`; Helm adds the deepest files first.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Parse`] with file and line.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        let (file, trees) = parse_file(name, text)?;
        for tree in &trees {
            if tree.is_empty() && self.rt.has(&tree.name) {
                continue;
            }
            let source = self.rt.lower(tree, &file)?;
            self.rt.add(&tree.name, source);
            self.rt.know(tree);
        }
        Ok(())
    }

    /// Executes a template on `data`. What Go prints as `<no value>` is left out, as Helm does.
    ///
    /// Run it on a thread with a large stack ([`STACK_BYTES`](super::STACK_BYTES)): templates may include each other
    /// as deep as [`Limits::max_depth`].
    ///
    /// # Errors
    ///
    /// [`TemplateError::Exec`] with the place of the failure, [`TemplateError::Limit`] if the template is too costly.
    pub fn render(&self, name: &str, data: &Value) -> Result<String, TemplateError> {
        let text = self.rt.execute(name, data)?;
        Ok(if text.contains("<no value>") { text.replace("<no value>", "") } else { text })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.rt.close();
    }
}
