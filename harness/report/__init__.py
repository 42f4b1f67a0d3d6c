"""Reports for people and for other programs, all of them made from report.yaml: HTML, Markdown, JUnit XML."""
