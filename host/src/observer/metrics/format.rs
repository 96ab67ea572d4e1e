//! Which form of the metrics a client accepts.

/// A form of the metrics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' text format, version 0.0.4.
    Text,
    /// OpenMetrics 1.0, which has exemplars.
    OpenMetrics,
    /// Protocol Buffers, which have native histograms and exemplars.
    Protobuf,
}

/// Maximum number of media types of an `accept` field that are looked at.
const MAX_MEDIA_TYPES: usize = 32;

impl Format {
    /// The form that an `accept` field (RFC 9110 §12.5.1) prefers: that with the highest weight, of several the first.
    /// [`Format::Text`] if it accepts none.
    pub(crate) fn accepted(accept: &str) -> Self {
        let mut best = (Self::Text, 0);
        for media_type in accept.split(',').take(MAX_MEDIA_TYPES) {
            let Some((format, weight)) = Self::of_media_type(media_type) else { continue };
            if weight > best.1 {
                best = (format, weight);
            }
        }
        best.0
    }

    /// The form of a media type, and its weight in thousandths.
    fn of_media_type(media_type: &str) -> Option<(Self, u32)> {
        let mut parts = media_type.split(';').map(str::trim);
        let essence = parts.next()?.to_ascii_lowercase();
        let (mut weight, mut version, mut proto, mut encoding) = (1_000, None, None, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => {
                    let q = value.parse::<f64>().ok().filter(|q| (0.0..=1.0).contains(q))?;
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
                    let thousandths = (q * 1_000.0) as u32;
                    weight = thousandths;
                }
                "version" => version = Some(value),
                "proto" => proto = Some(value),
                "encoding" => encoding = Some(value),
                _ => {}
            }
        }
        let format = match essence.as_str() {
            "text/plain" if version.is_none_or(|version| version == "0.0.4") => Self::Text,
            "text/*" | "*/*" => Self::Text,
            "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => Self::OpenMetrics,
            "application/vnd.google.protobuf"
                if proto == Some("io.prometheus.client.MetricFamily") && encoding == Some("delimited") =>
            {
                Self::Protobuf
            }
            _ => return None,
        };
        Some((format, weight))
    }

    /// The media type of the page.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Format::{self, OpenMetrics, Protobuf, Text};

    #[test]
    fn the_highest_weight_is_accepted() {
        #[track_caller]
        fn check(accept: &str, format: Format) {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
        check("", Text);
        check("*/*", Text);
        check("text/html", Text);
        check("application/openmetrics-text", OpenMetrics);
        check("application/openmetrics-text; version=\"1.0.0\"", OpenMetrics);
        check("application/openmetrics-text;version=2.0.0", Text);
        check("text/plain;q=0.5, application/openmetrics-text;q=0.4", Text);
        check("application/openmetrics-text;q=0, text/plain;q=0.1", Text);
        check("application/openmetrics-text;q=nonsense", Text);
        check("application/vnd.google.protobuf", Text);
        // As Prometheus 2.42 asks, without and with native histograms.
        let text = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        check(text, OpenMetrics);
        let binary = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        check(&format!("{binary},{};q=0.8", text.replacen("1.0.0", "1.0.0;q=0.8", 1)), Protobuf);
    }
}
