"""Training: TRL's SFT for the teacher, our trainer for the student, exact resume for both."""
