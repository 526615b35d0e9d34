"""The study: which claims of the papers hold on this project's benchmarks, with every number made by a command."""
