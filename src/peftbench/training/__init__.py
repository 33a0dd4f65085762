"""Real trainings: to quality, on several tasks at once, and of a task that is added."""
