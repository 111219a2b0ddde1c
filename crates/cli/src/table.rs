//! Tables as kubectl and istioctl print them: columns padded with spaces, no lines.

/// Spaces between columns.
const GAP: usize = 5;

/// Renders rows under a header; rows are printed in the order given. Cells never break a line.
pub fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row.get(column).map_or(0, |cell| cell.chars().count()));
        cells.max().unwrap_or(0).max(header[column].len())
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let mut out = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{:<width$}", cell.replace(['\n', '\r'], " "), width = width + GAP));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "b".into()], vec!["longer".into(), String::new()]];
        assert_eq!(render(&["NAME", "X"], &rows), "NAME       X\na          b\nlonger\n");
    }
}
