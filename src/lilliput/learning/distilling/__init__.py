"""What a student learns from its teachers: answers, features, blocks, attention, relations."""
