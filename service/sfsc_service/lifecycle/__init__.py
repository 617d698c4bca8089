"""What is opened and closed in which order, whether the service is healthy, and how another bundle takes over."""
