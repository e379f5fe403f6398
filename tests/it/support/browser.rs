//! A real Chromium, driven through chromedriver as a person would use it: it opens pages,
//! presses keys, and looks.
//!
//! `DOORWARD_CHROMEDRIVER` names the driver, which finds the browser by itself, and
//! `DOORWARD_AXE` the file `axe.min.js` of axe-core.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use fantoccini::elements::Element;
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::process::{Folder, Process};
use super::{PATIENCE, eventually, service};

/// Keys, as WebDriver names them.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const SPACE: &str = " ";

/// More stops than any page has.
const MOST_STOPS: usize = 60;

/// How somebody looks at pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// On a phone, 390 pixels wide, with scripts off.
    Phone,
    /// On a desk, with scripts on: what checks a page must run in it.
    Desk,
}

/// The colours that somebody's device prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Light,
    Dark,
}

impl Scheme {
    pub const ALL: [Scheme; 2] = [Scheme::Light, Scheme::Dark];

    /// As style sheets call it.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        }
    }
}

/// What is checked: a mail is no whole page, and has no landmarks of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Page,
    Mail,
}

impl Kind {
    /// What axe-core is to look for: all it knows, or what WCAG 2.2 demands at level AA.
    fn rules(self) -> Value {
        match self {
            Kind::Page => json!({}),
            Kind::Mail => json!({ "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa",
                                              "wcag22aa"] }),
        }
    }
}

/// A running driver: the browser that it starts ends with it.
pub struct Driver {
    _process: Process,
    port: u16,
    runtime: Runtime,
    folder: Folder,
}

/// A window.
pub struct Browser<'d> {
    driver: &'d Driver,
    client: Client,
}

impl Driver {
    /// `None` (and a printed line) where it is not installed.
    pub fn start() -> Option<Driver> {
        let program = service("DOORWARD_CHROMEDRIVER")?;
        let folder = Folder::new("browser");
        let mut command = Command::new(program);
        command.arg("--port=0").env("HOME", folder.path());
        let process = Process::start("chromedriver", folder.path(), &mut command);
        let port = eventually("chromedriver's port", PATIENCE, || {
            let said = process.output();
            let (_, rest) = said.split_once("started successfully on port ")?;
            rest.split(['.', '\n']).next()?.trim().parse().ok()
        });
        Some(Driver {
            _process: process,
            port,
            runtime: Runtime::new().expect("a runtime"),
            folder,
        })
    }

    /// A window of somebody who reads `language`.
    pub fn open(&self, looks: Looks, language: &str) -> Browser<'_> {
        let profile = self.folder.path().join(format!("{looks:?}"));
        let mut options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--hide-scrollbars", "--window-size=1000,900",
                     format!("--user-data-dir={}", profile.display())],
            "prefs": { "intl.accept_languages": language },
        });
        if looks == Looks::Phone {
            options["mobileEmulation"] =
                json!({ "deviceMetrics": { "width": 390, "height": 844, "pixelRatio": 2.0 } });
            // 2: blocked.
            options["prefs"]["profile.managed_default_content_settings.javascript"] = json!(2);
        }
        let mut capabilities = Capabilities::new();
        capabilities.insert("browserName".into(), json!("chrome"));
        capabilities.insert("goog:chromeOptions".into(), options);
        let connected = self.runtime.block_on(
            ClientBuilder::new(HttpConnector::new())
                .capabilities(capabilities)
                .connect(&format!("http://127.0.0.1:{}", self.port)),
        );
        Browser {
            driver: self,
            client: connected.expect("a browser"),
        }
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // What is left of it ends with the driver.
        let _ = self.driver.runtime.block_on(self.client.clone().close());
    }
}

impl Browser<'_> {
    fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.driver.runtime.block_on(what)
    }

    pub fn goto(&self, url: &str) {
        self.wait(self.client.goto(url))
            .unwrap_or_else(|e| panic!("{url} cannot be opened: {e}"));
    }

    /// Shows a document that has no address, such as a mail.
    pub fn show(&self, html: &str) {
        let html = base64::engine::general_purpose::STANDARD.encode(html);
        self.goto(&format!("data:text/html;charset=utf-8;base64,{html}"));
    }

    /// The address of the page that is shown.
    pub fn url(&self) -> String {
        let url = self.wait(self.client.current_url()).expect("an address");
        url.to_string()
    }

    /// Its path.
    pub fn path(&self) -> String {
        let url = self.wait(self.client.current_url()).expect("an address");
        url.path().to_owned()
    }

    /// Prefers these colours from here on.
    pub fn prefer(&self, scheme: Scheme) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme.name() });
        self.command(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        );
    }

    /// What stands on the page, as a person reads it.
    pub fn text(&self) -> String {
        let text = self.wait(async {
            let body = self.client.find(Locator::Css("body")).await?;
            body.text().await
        });
        // Between two pages there may be none.
        text.unwrap_or_default()
    }

    /// What stands in the one element that `css` selects.
    #[track_caller]
    pub fn text_of(&self, css: &str) -> String {
        let text = self.wait(async {
            let element = self.client.find(Locator::Css(css)).await?;
            element.text().await
        });
        text.unwrap_or_else(|e| panic!("{css}: {e}"))
    }

    /// What `css` selects that is shown and is less than `height` CSS pixels high.
    pub fn lower_than(&self, height: f64, css: &str) -> Vec<String> {
        self.wait(async {
            let mut low = Vec::new();
            for element in self.client.find_all(Locator::Css(css)).await? {
                let (_, _, width, high) = element.rectangle().await?;
                if width > 0.0 && high < height {
                    low.push(format!("{high} px: {}", element.text().await?));
                }
            }
            Ok::<_, fantoccini::error::CmdError>(low)
        })
        .expect("elements")
    }

    /// Waits until the page says `words`.
    #[track_caller]
    pub fn wait_for(&self, words: &str) {
        let mut last = String::new();
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            last = self.text();
            if last.contains(words) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the page never said {words:?}; it says:\n{last}");
    }

    /// How many elements `css` selects.
    pub fn count(&self, css: &str) -> usize {
        let found = self.wait(self.client.find_all(Locator::Css(css)));
        found.expect("a selection").len()
    }

    /// Presses `key` where the keyboard stands.
    pub fn press(&self, key: &str) {
        self.wait(async {
            let at = self.client.active_element().await.expect("a focus");
            at.send_keys(key).await.expect("a key pressed");
        });
    }

    /// Goes from stop to stop by the keyboard alone until the one that `css` selects has the
    /// focus, which must be visible.
    #[track_caller]
    pub fn tab_to(&self, css: &str) {
        for _ in 0..MOST_STOPS {
            self.press(TAB);
            if self.has_focus(css) {
                return;
            }
        }
        panic!("the keyboard never comes to {css}");
    }

    fn has_focus(&self, css: &str) -> bool {
        let id = |element: &Element| element.element_id().to_string();
        self.wait(async {
            let at = self.client.active_element().await.expect("a focus");
            let wanted = self.client.find_all(Locator::Css(css)).await;
            let wanted = wanted.expect("a selection");
            wanted.iter().any(|element| id(element) == id(&at))
        })
    }

    /// Keeps a picture of the page, as high as the page is, as `name`.png among the run's
    /// artefacts.
    pub fn picture(&self, name: &str) {
        let folder = pictures();
        std::fs::create_dir_all(&folder).expect("a folder");
        let shot = self.command(
            "Page.captureScreenshot",
            json!({ "format": "png", "captureBeyondViewport": true }),
        );
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(shot["data"].as_str().expect("a picture"))
            .expect("base64");
        std::fs::write(folder.join(format!("{name}.png")), bytes).expect("written");
    }

    /// Violations that axe-core finds, a line each. The window must have scripts.
    pub fn violations(&self, axe: &Path, kind: Kind) -> Vec<String> {
        let source = std::fs::read_to_string(axe).expect("axe-core");
        self.wait(self.client.execute(&source, Vec::new()))
            .expect("axe-core runs");
        let found = self.wait(self.client.execute_async(
            "const done = arguments[arguments.length - 1]; \
             axe.run(arguments[0]).then(r => done(r.violations), \
                                        e => done([{id: String(e), nodes: []}]));",
            vec![kind.rules()],
        ));
        let found = found.expect("an answer");
        let lines = found.as_array().into_iter().flatten().map(|violation| {
            let nodes = violation["nodes"].as_array();
            let targets: Vec<String> = nodes
                .into_iter()
                .flatten()
                .map(|node| node["target"].to_string())
                .collect();
            format!("{}: {}", violation["id"], targets.join(" "))
        });
        lines.collect()
    }

    /// Whether the page is wider than the window, so that one must scroll sideways.
    pub fn scrolls_sideways(&self) -> bool {
        let size = self.command("Page.getLayoutMetrics", json!({}));
        let width = |name: &str| {
            size[name]["width"]
                .as_f64()
                .or(size[name]["clientWidth"].as_f64())
        };
        width("cssContentSize") > width("cssLayoutViewport")
    }

    /// A command of the browser's own protocol.
    fn command(&self, name: &str, arguments: Value) -> Value {
        self.wait(self.client.issue_cmd(DevTools {
            name: name.to_owned(),
            arguments,
        }))
        .unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

/// Where pictures go.
pub fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots")
}

/// chromedriver's way to the browser's own protocol.
#[derive(Debug)]
struct DevTools {
    name: String,
    arguments: Value,
}

impl fantoccini::wd::WebDriverCompatibleCommand for DevTools {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!(
            "session/{}/goog/cdp/execute",
            session.unwrap_or_default()
        ))
    }

    fn method_and_body(&self, _: &url::Url) -> (ureq::http::Method, Option<String>) {
        let body = json!({ "cmd": self.name, "params": self.arguments });
        (ureq::http::Method::POST, Some(body.to_string()))
    }
}
