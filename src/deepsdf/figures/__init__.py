"""Pictures, contact sheets, plots and the HTML report."""
