//! Links in mails: PASETO v4.local tokens.
