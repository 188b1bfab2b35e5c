//! A set of templates that know each other, and their execution by minijinja.

use std::sync::Arc;

use minijinja::value::Value;

use super::bounds::TEMPLATE_BYTES;
use super::error::TemplateError;
use super::exec;
use super::runtime::{Prepared, Runtime};
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
        let prepared = self.rt.prepare(name, text)?;
        self.take(prepared)
    }

    /// Adds many template files, name and text of each, in this order; they are parsed two at a time.
    ///
    /// # Errors
    ///
    /// Of the first that cannot be parsed, as [`Engine::add`].
    pub fn add_all(&mut self, files: &[(&str, &str)]) -> Result<(), TemplateError> {
        let rt = &self.rt;
        let parse =
            |files: &[(&str, &str)]| files.iter().map(|(name, text)| rt.prepare(name, text)).collect();
        let (first, second) = files.split_at(half(files));
        if second.is_empty() {
            return first.iter().try_for_each(|(name, text)| self.add(name, text));
        }
        let (first, second): (Vec<_>, Vec<_>) = std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("parse".into()).stack_size(super::STACK_BYTES);
            match builder.spawn_scoped(scope, || parse(second)) {
                Ok(other) => (parse(first), other.join().unwrap_or_else(|e| std::panic::resume_unwind(e))),
                Err(_) => (parse(first), parse(second)),
            }
        });
        first.into_iter().chain(second).try_for_each(|prepared| self.take(prepared?))
    }

    fn take(&mut self, Prepared { file, parsed }: Prepared) -> Result<(), TemplateError> {
        self.rt.count_parsed(&file, &parsed)?;
        self.rt.count_fixed(&file.name, TEMPLATE_BYTES)?;
        for tree in parsed.trees {
            if tree.is_empty() && self.rt.has(&tree.name) {
                continue;
            }
            self.rt.know(&tree);
            self.rt.add(tree, &file);
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

/// How many of the files are about half of the bytes; all, where a second thread is not worth its start.
fn half(files: &[(&str, &str)]) -> usize {
    let total: usize = files.iter().map(|(_, text)| text.len()).sum();
    if total < 128 << 10 {
        return files.len();
    }
    let mut seen = 0;
    files
        .iter()
        .take_while(|(_, text)| {
            seen += text.len();
            seen * 2 <= total
        })
        .count()
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.rt.close();
    }
}
