"""The study ``individuals``: photographs of animals that are known one by one."""
