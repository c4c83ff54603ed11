"""What a run says, for people: the comparison in the terminal, as CSV and LaTeX, and one self-contained HTML file. Reads run folders only."""
