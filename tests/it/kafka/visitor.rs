//! Somebody who follows the link in a mail of a running site.

use crate::support::doorward::Doorward;
use crate::support::{PATIENCE, eventually};

pub struct Visitor {
    agent: ureq::Agent,
    address: String,
}

impl Visitor {
    #[track_caller]
    pub fn of(site: &Doorward) -> Visitor {
        let address = eventually("the pages' address", PATIENCE, || {
            let log = site.log();
            let (_, rest) = log.split_once("\"web\":\"")?;
            let (address, _) = rest.split_once('"')?;
            Some(format!("http://{address}"))
        });
        let agent = ureq::Agent::config_builder()
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        Visitor { agent, address }
    }

    /// The text of a page that is there.
    pub fn open(&self, path: &str) -> Result<String, ureq::Error> {
        let mut page = self.agent.get(format!("{}{path}", self.address)).call()?;
        page.body_mut().read_to_string()
    }

    /// Where the buttons of a page lead.
    #[track_caller]
    pub fn buttons(&self, path: &str) -> Vec<String> {
        let page = self.open(path).expect("a page");
        let forms = page.split("action=\"").skip(1);
        forms
            .filter_map(|form| form.split('"').next())
            .map(str::to_owned)
            .collect()
    }

    /// Presses the button that leads to `action`; where the site sends its visitor next.
    #[track_caller]
    pub fn press(&self, action: &str, fields: &[(&str, &str)]) -> String {
        let form = self.agent.post(format!("{}{action}", self.address));
        let answer = form.send_form(fields.iter().copied()).expect("an answer");
        assert_eq!(answer.status().as_u16(), 303);
        let next = answer.headers()["location"].to_str().expect("a path");
        next.to_owned()
    }
}

/// The path of the link in a mail that ends with `end`.
pub fn link_in(text: &str, end: &str) -> Option<String> {
    let link = text.split_whitespace().find(|word| word.ends_with(end))?;
    let path = link.strip_prefix("https://login.example.com")?;
    Some(path.to_owned())
}
