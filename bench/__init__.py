"""Figures: each module measures one part beside a peer or a limit in the same run, and says what it measured with."""
