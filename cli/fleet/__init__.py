"""A fleet as `lowtide status` shows it: looked at again and again, gathered, drawn; and the tasks that nobody reads."""
